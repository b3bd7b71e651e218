package watch_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"netd/reconcile/watch"
)

// What these tests wait for is told by inotify.
func TestMain(m *testing.M) {
	watch.Look = time.Hour
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(text), 0o600))
}

// TestFiles: in whatever way a file comes to hold something else, the watch tells, and what it holds then is what it holds.
func TestFiles(t *testing.T) {
	swap := func(t *testing.T, to, link string) {
		t.Helper()
		must(t, os.Symlink(to, link+".new"))
		must(t, os.Rename(link+".new", link))
	}
	for _, x := range []struct {
		name          string
		before, after func(t *testing.T, dir, file string)
	}{
		{"written in place", nil, func(t *testing.T, _, file string) { write(t, file, "new") }},
		{"written in two halves", nil, func(t *testing.T, _, file string) {
			f, err := os.OpenFile(file, os.O_TRUNC|os.O_WRONLY, 0)
			must(t, err)
			defer f.Close()
			_, err = f.WriteString("n")
			must(t, err)
			_, err = f.WriteString("ew")
			must(t, err)
		}},
		{"renamed over, as editors do", nil, func(t *testing.T, _, file string) {
			write(t, file+"~", "new")
			must(t, os.Rename(file+"~", file))
		}},
		{"moved away and written anew", nil, func(t *testing.T, _, file string) {
			must(t, os.Rename(file, file+".bak"))
			write(t, file, "new")
		}},
		{"deleted and made again", nil, func(t *testing.T, _, file string) {
			must(t, os.Remove(file))
			write(t, file, "new")
		}},
		{"its folder swapped", nil, func(t *testing.T, dir, file string) {
			write(t, filepath.Join(dir, "other", "netd.hcl"), "new")
			must(t, os.Rename(filepath.Dir(file), filepath.Join(dir, "away")))
			must(t, os.Rename(filepath.Join(dir, "other"), filepath.Dir(file)))
		}},
		{"in a folder that was not there", func(t *testing.T, _, file string) { must(t, os.RemoveAll(filepath.Dir(file))) },
			func(t *testing.T, _, file string) { write(t, file, "new") }},
		{"a link that leads elsewhere", func(t *testing.T, dir, file string) {
			must(t, os.Rename(file, filepath.Join(dir, "old")))
			must(t, os.Symlink(filepath.Join(dir, "old"), file))
		}, func(t *testing.T, dir, file string) {
			write(t, filepath.Join(dir, "fresh"), "new")
			swap(t, filepath.Join(dir, "fresh"), file)
		}},
		{"the end of a chain of links", func(t *testing.T, dir, file string) {
			must(t, os.Rename(file, filepath.Join(dir, "end")))
			must(t, os.Symlink("end", filepath.Join(dir, "middle")))
			must(t, os.Symlink(filepath.Join(dir, "middle"), file))
		}, func(t *testing.T, dir, _ string) { write(t, filepath.Join(dir, "end"), "new") }},
		{"swapped as Kubernetes does", func(t *testing.T, dir, file string) {
			write(t, filepath.Join(filepath.Dir(file), "..1", "netd.hcl"), "old")
			must(t, os.Symlink("..1", filepath.Join(filepath.Dir(file), "..data")))
			must(t, os.Remove(file))
			must(t, os.Symlink("..data/netd.hcl", file))
		}, func(t *testing.T, _, file string) {
			write(t, filepath.Join(filepath.Dir(file), "..2", "netd.hcl"), "new")
			swap(t, "..2", filepath.Join(filepath.Dir(file), "..data"))
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "etc", "netd.hcl")
			write(t, file, "old")
			if x.before != nil {
				x.before(t, dir, file)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			told := make(chan string, 100)
			wg.Add(1)
			go func() {
				defer wg.Done()
				watch.Files(ctx, func() []string { return []string{file} }, nil, func() {
					b, _ := os.ReadFile(file)
					told <- string(b)
				}, func(err error) { t.Error(err) })
			}()
			defer func() { cancel(); wg.Wait() }()
			<-told // it is watched
			x.after(t, dir, file)
			deadline := time.After(time.Minute)
			for {
				select {
				case text := <-told:
					if text == "new" {
						return
					}
				case <-deadline:
					t.Fatal("nothing was told of it")
				}
			}
		})
	}
}

// TestBefore: what happened after the file was read and before it was watched is told.
func TestBefore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "netd.hcl")
	write(t, file, "new")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	told := make(chan struct{}, 1)
	wg.Add(1)
	go func() {
		defer wg.Done()
		watch.Files(ctx, func() []string { return []string{file} }, nil, func() { told <- struct{}{} }, func(err error) { t.Error(err) })
	}()
	defer func() { cancel(); wg.Wait() }()
	select {
	case <-told:
	case <-time.After(time.Minute):
		t.Fatal("nothing was told when the watch stood")
	}
}

// TestBeside: what is written beside the file, in any folder on the way to it, is no news.
func TestBeside(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "etc", "netd.hcl")
	write(t, file, "old")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	told := make(chan string, 100)
	wg.Add(1)
	go func() {
		defer wg.Done()
		watch.Paths(ctx, func() []string { return []string{file} }, nil, time.Millisecond, func() {
			b, _ := os.ReadFile(file)
			told <- string(b)
		}, func(err error) { t.Error(err) })
	}()
	defer func() { cancel(); wg.Wait() }()
	tell := func(text string) {
		t.Helper()
		deadline := time.After(time.Minute)
		for got := ""; got != text; {
			write(t, file, text) // again, until it is watched
			select {
			case got = <-told:
			case <-time.After(50 * time.Millisecond):
			case <-deadline:
				t.Fatal("nothing was told of it")
			}
		}
	}
	tell("watched")
	for len(told) > 0 {
		<-told
	}
	// One event, which may be late: what was there before may be told of with what the file holds now.
	write(t, filepath.Join(dir, "quiet"), "quiet")
	must(t, os.Rename(filepath.Join(dir, "quiet"), file))
	for got := ""; got != "quiet"; got = <-told {
	}
	for len(told) > 0 {
		<-told
	}
	for i := range 20 {
		write(t, filepath.Join(dir, "etc", "beside"), string(rune('a'+i)))
		write(t, filepath.Join(dir, "above"), string(rune('a'+i)))
		time.Sleep(3 * time.Millisecond) // three times the pause: what would be told is
	}
	if len(told) > 1 {
		t.Errorf("told of %d writes beside the file", len(told)-1)
	}
	tell("new")
}

// TestOtherPaths: paths that come to be watched later are, at once, and what happened there before is told.
func TestOtherPaths(t *testing.T) {
	file := filepath.Join(t.TempDir(), "box")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var mu sync.Mutex
	var paths []string
	others, told := make(chan struct{}, 1), make(chan struct{}, 100)
	wg.Add(1)
	go func() {
		defer wg.Done()
		watch.Paths(ctx, func() []string { mu.Lock(); defer mu.Unlock(); return paths }, others, time.Millisecond, func() { told <- struct{}{} }, func(err error) { t.Error(err) })
	}()
	defer func() { cancel(); wg.Wait() }()
	await := func(what string) {
		t.Helper()
		select {
		case <-told:
		case <-time.After(time.Minute):
			t.Fatalf("nothing was told of %s", what)
		}
	}
	await("the watch")
	mu.Lock()
	paths = []string{file}
	mu.Unlock()
	others <- struct{}{}
	await("a path more")
	write(t, file, "")
	await("what happened there")
}
