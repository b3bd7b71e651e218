package watch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is how long the file watcher pauses: an editor writes in several steps.
const quiet = 100 * time.Millisecond

// Look is how often the file watcher looks for what inotify does not see: network file systems, a lost event. Tests set it, before
// anything watches.
var Look = 10 * time.Second

// Paths calls changed some moments after anything happened at one of the paths, in a folder that one is, or on the way to one:
// every folder of the symbolic links that lead there is watched, so that a renamed file, a swapped link and a folder that
// appears later are all seen. What happens beside the paths is no news. paths is asked again after each event, and when others tells
// that there are others. changed is called once when the watch stands, too: what happened before then nothing tells of. It ends
// with ctx.
func Paths(ctx context.Context, paths func() []string, others <-chan struct{}, pause time.Duration, changed func(), trouble func(error)) {
	for ctx.Err() == nil {
		if err := watchPaths(ctx, paths, others, pause, changed); err != nil && ctx.Err() == nil {
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
func Files(ctx context.Context, paths func() []string, others <-chan struct{}, changed func(), trouble func(error)) {
	Paths(ctx, paths, others, quiet, changed, trouble)
}

func watchPaths(ctx context.Context, paths func() []string, others <-chan struct{}, pause time.Duration, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	var folders, names, inside []string
	seen := ""
	renew := func() {
		at := paths()
		wanted, of, in := trail(at)
		for _, f := range folders {
			if !slices.Contains(wanted, f) {
				_ = w.Remove(f)
			}
		}
		folders, names, inside = folders[:0], of, in
		for _, f := range wanted {
			if w.Add(f) == nil {
				folders = append(folders, f)
			}
		}
		seen = glance(at)
	}
	renew()
	changed()
	poll := time.NewTicker(Look)
	defer poll.Stop()
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	defer settle.Stop()
	again := func() {
		before := seen
		if renew(); seen != before {
			changed()
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-w.Events:
			if !ok {
				return nil
			}
			if !slices.Contains(names, ev.Name) && !slices.Contains(inside, filepath.Dir(ev.Name)) {
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
		case <-others:
			again()
		case <-poll.C:
			again()
		}
	}
}

// glance is what is at paths, and in the folders among them, as far as it can be told without reading: another text, another
// state.
func glance(paths []string) string {
	var b strings.Builder
	tell := func(name string, info os.FileInfo, err error) {
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", name, err)
			return
		}
		fmt.Fprintf(&b, "%s: %v %d", name, info.Mode(), info.Size())
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			fmt.Fprintf(&b, " %d %d", sys.Dev, sys.Ino)
			if sys.Size > 0 { // what is empty was not written; and a namespace in /proc is as old as the last look at it
				fmt.Fprintf(&b, " %d %d", sys.Mtim.Nano(), sys.Ctim.Nano())
			}
		}
		b.WriteByte('\n')
	}
	for _, p := range paths {
		info, err := os.Stat(p)
		tell(p, info, err)
		if err != nil || !info.IsDir() {
			continue
		}
		entries, err := os.ReadDir(p)
		if err != nil {
			tell(p, nil, err)
		}
		for _, e := range entries {
			name := filepath.Join(p, e.Name())
			info, err := os.Stat(name)
			tell(name, info, err)
		}
	}
	return b.String()
}

// trail lists the folders to watch for paths, the names in them that matter, and the folders of which every name does.
func trail(paths []string) (folders, names, inside []string) {
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
				add(&inside, p)
			}
			next, ok := readlink(p)
			if !ok {
				break
			}
			p = next
		}
	}
	return folders, names, inside
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
