package reconcile

import "time"

// Fights between netd and another program over one object. The first repairs are made at once; someone who keeps undoing
// them meets a growing pause, so that two reconcilers do not burn the host between them.
const (
	fightFree   = 3                      // repairs of one object within fightWindow that are made at once
	fightWindow = 10 * time.Second       // quiet for so long (or twice the pause, if longer): the fight is over
	fightFirst  = 100 * time.Millisecond // pause after the free repairs, doubled each time
	fightMost   = time.Minute
)

// fights remembers which objects were repaired of late.
type fights map[Key]*fight

type fight struct {
	repairs int
	last    time.Time
	pause   time.Duration
	owed    bool   // a repair was put off
	by      string // who changed it last, where that is known
	owedBy  string // who did while its repair was put off: the repair is told by it, when the event is long gone
}

// until returns the time before which k is not to be repaired again; the zero time where it may be now.
func (f fights) until(k Key, now time.Time) time.Time {
	x := f[k]
	if x == nil || x.pause == 0 {
		return time.Time{}
	}
	if again := x.last.Add(x.pause); again.After(now) {
		return again
	}
	return time.Time{}
}

// putOff notes that k, which is in a fight, was changed by whom and is to be looked at again.
func (f fights) putOff(k Key, by string) {
	if x := f[k]; x != nil {
		x.owed, x.by, x.owedBy = true, by, by
	}
}

// due returns the objects that were put off and may be repaired now, and when the next may be; zero where none is left.
func (f fights) due(now time.Time) (keys []Key, next time.Time) {
	for k, x := range f {
		if !x.owed {
			continue
		}
		if until := f.until(k, now); until.IsZero() {
			x.owed = false
			keys = append(keys, k)
		} else if next.IsZero() || until.Before(next) {
			next = until
		}
	}
	return keys, next
}

// who changed k last, as far as that is known.
func (f fights) who(k Key) string {
	if x := f[k]; x != nil {
		return x.by
	}
	return ""
}

// owedBy is who changed k while its repair was put off, as far as that is known.
func (f fights) owedBy(k Key) string {
	if x := f[k]; x != nil {
		return x.owedBy
	}
	return ""
}

// looked notes that what was put off was looked at: whoever changes it from now on is somebody else.
func (f fights) looked(keys []Key) {
	for _, k := range keys {
		if x := f[k]; x != nil {
			x.owedBy = ""
		}
	}
}

// repaired notes that k was repaired after by changed it.
func (f fights) repaired(k Key, by string, now time.Time) {
	x := f[k]
	if x == nil {
		x = &fight{}
		f[k] = x
	}
	if now.Sub(x.last) > max(fightWindow, 2*x.pause) {
		*x = fight{}
	}
	x.repairs++
	x.last, x.by, x.owedBy = now, by, ""
	switch {
	case x.repairs <= fightFree:
	case x.pause == 0:
		x.pause = fightFirst
	default:
		x.pause = min(2*x.pause, fightMost)
	}
}

// over forgets the fights over what is wanted no more, or anew: a container's objects go with it, and come with the next one, by
// nobody's doing.
func (f fights) over(was, is State) {
	for k := range f {
		if (was[k] == nil) != (is[k] == nil) {
			delete(f, k)
		}
	}
}

// contested are the objects that someone keeps changing, in order. It forgets the fights that are over.
func (f fights) contested(now time.Time) []Key {
	var keys []Key
	for k, x := range f {
		switch {
		case now.Sub(x.last) > max(fightWindow, 2*x.pause):
			delete(f, k)
		case x.pause > 0:
			keys = append(keys, k)
		}
	}
	sortKeys(keys)
	return keys
}
