package speaker

import (
	"strings"
	"time"
)

// reasons are what the speaker itself remembers of a session that is down, so that what is said of it helps most.
type reasons struct {
	lost    string    // why it was lost, where that was said: what came of it is not to hide that
	opening time.Time // when one last failed on its way up for a reason that was said
}

// The first two are said where nothing better is known. gobgp loses the connection after every other reason too, and keeps to
// itself what a neighbour says when it refuses an OPEN.
const (
	connectionLost = "the connection was lost"
	closedEarly    = "it closed the session before it was up: it may expect another AS, another router id or other capabilities"
	neverBack      = "did not come back within its restart time" // when its routes went
)

func vague(words string) bool {
	return words == closedEarly || strings.HasPrefix(words, connectionLost)
}

// fails notes why a session is not up. opening is so where it failed on its way up, and not for want of a connection.
func (n *Neighbour) fails(words string, opening bool, now time.Time) {
	since := now.Sub(n.ErrorAt)
	switch {
	case words == nobodyDials && n.Error != "":
		return // why it was lost says more
	case vague(words) && n.Error != "" && !vague(n.Error) && since < time.Second:
		return // the cause was told a moment ago, and this is what came of it
	case words == closedEarly && now.Sub(n.why.opening) < time.Minute:
		return // of two connections, one by each end, the other one said why
	}
	switch {
	case words == neverBack:
		n.why.lost = words
	case opening && !vague(words) && !n.Established():
		n.why.opening = now
	}
	if n.why.lost != "" && words != n.why.lost {
		words += "; before that: " + n.why.lost
	}
	if n.Error == words && since < 10*time.Second {
		return // the same again, while dialling: not worth telling every reader
	}
	n.Error, n.ErrorAt = words, now
}

// begins notes that a session is up.
func (n *Neighbour) begins() { n.why = reasons{} }

// ends notes that a session which was up is not any more.
func (n *Neighbour) ends() {
	if n.ErrorAt.After(n.Since) && !vague(n.Error) {
		n.why.lost = n.Error
	}
}
