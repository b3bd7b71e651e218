package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"netd/config"
	"netd/reconcile/desired"
)

// Limits on what a configuration may cost. What the parser's own bounds do not catch ends the process.
const (
	parseTime = 8 * time.Second // of work: on a busy host a good file takes its time and is good still
	parseWait = time.Minute     // whatever it waits for
	parseHeap = 600 << 20
)

// parse parses a source under a watchdog: memory and time that the bounds of the parser do not see end the process.
func parse(s *config.Source) (*config.Config, config.Diagnostics) {
	done := make(chan struct{})
	defer close(done)
	go watchdog(done, s.Path)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(parseHeap))
	return s.Parse()
}

func watchdog(done <-chan struct{}, path string) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(parseWait)
	before := worked()
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	for {
		why := ""
		select {
		case <-done:
			return
		case <-deadline:
			why = fmt.Sprintf("evaluating it takes longer than %s", parseWait)
		case <-tick.C:
			if worked()-before > parseTime {
				why = fmt.Sprintf("evaluating it takes longer than %s", parseTime)
				break
			}
			if metrics.Read(heap); heap[0].Value.Uint64() > parseHeap {
				if heap[0].Value.Uint64() < parseHeap*5/4 { // else it grows faster than a collection ends
					runtime.GC()
				}
				if metrics.Read(heap); heap[0].Value.Uint64() > parseHeap {
					why = fmt.Sprintf("evaluating it takes more than %d MiB of memory", parseHeap>>20)
				}
			}
		}
		if why != "" {
			fmt.Fprintf(os.Stderr, "netd: %s: %s; make its expressions smaller\n", path, why)
			os.Exit(exitConfig)
		}
	}
}

// worked is the processor time that the process has had.
func worked() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (a *app) validateCmd() *cobra.Command {
	var asJSON, handed bool
	cmd := &cobra.Command{
		Use:   "validate [FILE]",
		Short: "Parse and check the configuration",
		Long: `Parse and cross-check the configuration, and print every fault with its place and what to do. Needs no root and no
kernel. Exits 0, or 78 where the file has faults.`,
		Example: "  netd validate\n  netd validate draft.hcl",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if handed {
				return a.validateHanded()
			}
			path := a.config
			if len(args) == 1 {
				path = args[0]
			}
			s, err := a.read(path)
			if err != nil {
				return err
			}
			done := a.waiting("the configuration to be evaluated")
			c, ds := parse(s)
			done()
			notes := []string{}
			if c != nil {
				for _, u := range desired.CannotYet(c) {
					notes = append(notes, u.Error())
				}
				for _, err := range checkPasswords(c, "") {
					notes = append(notes, err.Error())
				}
			}
			if asJSON {
				v := validateView{SchemaVersion: 1, Valid: !ds.HasErrors(), Diagnostics: ds, Notes: notes}
				if c != nil {
					v.Config, v.Nodes = c.Digest, len(c.Nodes)
				}
				if err := printJSON(a.out, v); err != nil {
					return err
				}
			} else if err := ds.Write(a.page(a.talk), a.mark); err != nil {
				return err
			}
			if ds.HasErrors() {
				return &exit{code: exitConfig}
			}
			if !asJSON {
				for _, n := range notes {
					fmt.Fprintf(a.talk, "Note: %s\n", n)
				}
				fmt.Fprintf(a.out, "%s is valid: %s, %s, %s.\n", path, count(len(c.Networks), "network"), count(len(c.Nodes), "node"), count(len(c.Workloads), "workload"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&handed, "handed", false, "")
	_ = cmd.Flags().MarkHidden("handed")
	return cmd
}

// validateHanded parses for a daemon, which hands over what it has read, and answers with the configuration.
func (a *app) validateHanded() error {
	b, err := io.ReadAll(a.in)
	if err != nil {
		return err
	}
	s, err := config.Handed(b)
	if err != nil {
		return err
	}
	c, ds := parse(s)
	if ds.HasErrors() {
		if err := ds.Write(a.page(a.talk), a.mark); err != nil {
			return err
		}
		return &exit{code: exitConfig}
	}
	return s.Hand(a.out, c)
}

type validateView struct {
	SchemaVersion int                `json:"schema_version"`
	Valid         bool               `json:"valid"`
	Config        string             `json:"config,omitempty"`
	Nodes         int                `json:"nodes,omitempty"`
	Diagnostics   config.Diagnostics `json:"diagnostics"`
	Notes         []string           `json:"notes"`
}

// count spells a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func (a *app) fmtCmd() *cobra.Command {
	var write, check bool
	cmd := &cobra.Command{
		Use:   "fmt [PATH]...",
		Short: "Print the configuration in its canonical layout",
		Long: `Print the configuration in its canonical layout. Comments and meaning stay. Without a PATH it is --config's; a folder means
its *.hcl and *.hcl.json files, and - standard input. With -w the files are written where they differ, with --check only the
names of those that differ are printed.

Exits 0; 1 where --check found a file that differs; 78 where a file does not parse, which is left as it is.`,
		Example: "  netd fmt\n  netd fmt -w /etc/netd.hcl\n  netd fmt --check /etc/netd.d\n  netd fmt - < draft.hcl",
		RunE: func(cmd *cobra.Command, args []string) error {
			if write && check {
				return fail(exitUsage, "-w and --check exclude each other")
			}
			if len(args) == 0 {
				args = []string{a.config}
			}
			var errs []error
			differ := false
			for _, arg := range args {
				files := []string{arg}
				if arg != "-" {
					var err error
					if files, err = config.FilesOf(arg); err != nil {
						errs = append(errs, err)
					}
				} else if write {
					return fail(exitUsage, "-w needs a file: - is standard input")
				}
				for _, file := range files {
					changed, err := a.format(cmd.Context(), file, write, check)
					if err != nil {
						errs = append(errs, err)
					}
					differ = differ || changed
				}
			}
			if err := errors.Join(errs...); err != nil {
				switch {
				case errors.Is(err, fs.ErrPermission):
					return &exit{exitNoPerm, err}
				case cmd.Context().Err() != nil:
					return fail(exitFailed, "interrupted")
				}
				return &exit{exitConfig, err}
			}
			if check && differ {
				return &exit{code: exitFailed}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&write, "write", "w", false, "write the files that differ")
	cmd.Flags().BoolVar(&check, "check", false, "only name the files that differ")
	return cmd
}

// format formats one file; - is standard input.
func (a *app) format(ctx context.Context, file string, write, check bool) (changed bool, err error) {
	in, what := a.in, "standard input"
	if file != "-" {
		what = file
		if in, err = config.Open(file); err != nil {
			return false, err
		}
		defer in.Close()
	}
	defer a.waiting(what)()
	src, err := patiently(ctx, func() ([]byte, error) { return config.ReadBounded(in, file) })
	if err != nil {
		return false, err
	}
	out, ds := config.Format(file, src)
	if ds.HasErrors() {
		_ = ds.Write(a.page(a.talk), a.mark)
		return false, fmt.Errorf("%s does not parse; it is left as it is", file)
	}
	changed = !bytes.Equal(src, out)
	switch {
	case check:
		if changed {
			fmt.Fprintln(a.out, file)
		}
	case !write:
		_, err = a.out.Write(out)
	case changed:
		err = replaceFile(file, out)
	}
	return changed, err
}

// replaceFile writes a file whole or not at all, with its owner and mode, through a symbolic link.
func replaceFile(name string, b []byte) error {
	name, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(name), ".netd-fmt-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if err := fill(temp, b, info); err != nil {
		_ = temp.Close()
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	return os.Rename(temp.Name(), name)
}

// fill makes f what is to replace the file of info: on disk before a rename shows it.
func fill(f *os.File, b []byte, info fs.FileInfo) error {
	if _, err := f.Write(b); err != nil {
		return err
	}
	if s := info.Sys().(*syscall.Stat_t); int(s.Uid) != os.Getuid() || int(s.Gid) != os.Getgid() {
		if err := f.Chown(int(s.Uid), int(s.Gid)); err != nil {
			return err
		}
	}
	if err := f.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	return f.Sync()
}

type versionView struct {
	SchemaVersion int    `json:"schema_version"`
	Version       string `json:"version"`
	Go            string `json:"go"`
}

func newVersionView() versionView { return versionView{1, version, runtime.Version()} }

func (a *app) versionCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  netd version",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return printJSON(a.out, newVersionView())
			}
			_, err := fmt.Fprintf(a.out, "netd %s (%s)\n", version, runtime.Version())
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
