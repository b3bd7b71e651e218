package watch

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Pauses of the file watcher.
const (
	quiet = 100 * time.Millisecond // an editor writes in several steps
	look  = 10 * time.Second       // what inotify does not see: network file systems, a lost event
)

// Paths calls changed some moments after anything happened at one of the paths, or on the way to one: every folder of the
// symbolic links that lead there is watched, so that a renamed file, a swapped link and a folder that appears later are all
// seen. paths is asked again after each event. It ends with ctx.
func Paths(ctx context.Context, paths func() []string, pause time.Duration, changed func(), trouble func(error)) {
	for ctx.Err() == nil {
		if err := watchPaths(ctx, paths, pause, changed); err != nil && ctx.Err() == nil {
			trouble(err)
			select { // no inotify instance to be had: look from time to time
			case <-ctx.Done():
			case <-time.After(time.Second):
				changed()
			}
		}
	}
}

// Files is Paths for files that people edit.
func Files(ctx context.Context, paths func() []string, changed func(), trouble func(error)) {
	Paths(ctx, paths, quiet, changed, trouble)
}

func watchPaths(ctx context.Context, paths func() []string, pause time.Duration, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	var folders, names []string
	renew := func() {
		wanted, of := trail(paths())
		for _, f := range folders {
			if !slices.Contains(wanted, f) {
				_ = w.Remove(f)
			}
		}
		folders, names = folders[:0], of
		for _, f := range wanted {
			if w.Add(f) == nil {
				folders = append(folders, f)
			}
		}
	}
	renew()
	poll := time.NewTicker(look)
	defer poll.Stop()
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	defer settle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-w.Events:
			if !ok {
				return nil
			}
			if !slices.Contains(names, ev.Name) && !slices.Contains(names, filepath.Dir(ev.Name)) {
				continue
			}
			settle.Reset(pause)
		case err, ok := <-w.Errors:
			if !ok {
				return nil
			}
			changed()
			return err
		case <-settle.C:
			renew()
			changed()
		case <-poll.C:
			renew()
			changed()
		}
	}
}

// trail lists the folders to watch for paths, and the names in them that matter.
func trail(paths []string) (folders, names []string) {
	add := func(list *[]string, s string) {
		if !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
	for _, p := range paths {
		p, err := filepath.Abs(p)
		if err != nil {
			continue
		}
		for range 40 { // as many links as the kernel follows (MAXSYMLINKS)
			// Every component may be a link: each folder above is watched for its next component.
			for at := p; at != "/"; at = filepath.Dir(at) {
				add(&names, at)
				dir := filepath.Dir(at)
				if info, err := os.Stat(dir); err == nil && info.IsDir() {
					add(&folders, dir)
				}
			}
			if info, err := os.Stat(p); err == nil && info.IsDir() {
				add(&folders, p)
			}
			next, ok := readlink(p)
			if !ok {
				break
			}
			p = next
		}
	}
	return folders, names
}

// readlink resolves the first symbolic link on a path by one step.
func readlink(p string) (string, bool) {
	var above []string
	for at := p; at != "/"; at = filepath.Dir(at) {
		above = append(above, at)
	}
	slices.Reverse(above)
	for _, at := range above {
		to, err := os.Readlink(at)
		if err != nil {
			continue
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(at), to)
		}
		rest, _ := filepath.Rel(at, p)
		return filepath.Join(to, rest), true
	}
	return p, false
}
