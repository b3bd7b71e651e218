// Command netd keeps a host's container network as one file says.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"netd/config"
	"netd/reconcile/store"
)

// version is set by make; what another build knows of itself is taken where it is not.
var version = "unknown"

// revision is the commit that the program was built of, "unknown" where the build did not say.
func revision() string {
	revision, modified := "unknown", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value[:min(len(s.Value), 12)]
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = "-dirty"
			}
		}
	}
	return revision + modified
}

// Exit codes.
const (
	exitFailed   = 1
	exitChanges  = 2  // plan --detailed-exitcode found changes
	exitDegraded = 3  // status, drift
	exitUsage    = 64 // EX_USAGE (sysexits.h)
	exitNoDaemon = 69 // EX_UNAVAILABLE
	exitLocked   = 75 // EX_TEMPFAIL
	exitNoPerm   = 77 // EX_NOPERM
	exitConfig   = 78 // EX_CONFIG
)

// exit is an error with its exit code. One without an error was reported already.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

func fail(code int, format string, args ...any) error {
	return &exit{code, fmt.Errorf(format, args...)}
}

func main() {
	if version == "unknown" {
		version = revision()
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program.
func run(args []string, in *os.File, out, talk *os.File) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	a := &app{in: in, out: &output{file: out}, talk: talk, deaf: stop}
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if lost := a.out.err; lost != nil { // whatever else: what was asked for is not there whole
		fmt.Fprintln(talk, "netd: the output is not whole:", lost)
		return exitFailed
	}
	if err == nil {
		return 0
	}
	var e *exit
	var held *store.Held
	code := exitUsage // what cobra itself finds wrong
	switch {
	case errors.As(err, &e):
		code = e.code
		if e.err == nil {
			return code
		}
	case errors.As(err, &held):
		code = exitLocked
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EPERM):
		code = exitNoPerm
	case a.started:
		code = exitFailed
	}
	switch text := strings.TrimSpace(err.Error()); {
	case code == exitNoPerm:
		fmt.Fprintf(a.page(talk), "netd: this needs root (CAP_NET_ADMIN), try it with sudo: %s\n", text)
	case strings.HasPrefix(text, "Error: "), strings.HasPrefix(text, "Warning: "):
		fmt.Fprintln(a.page(talk), text) // a file's faults as the daemon found them
	default:
		for line := range strings.Lines(text) {
			fmt.Fprintf(a.page(talk), "netd: %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	if code == exitUsage && !a.started { // netd's own words say what to do
		fmt.Fprintf(talk, "netd: see %s --help\n", cmd.CommandPath())
	}
	return code
}

// relax has a command that ends soon collect its garbage seldom: with 10,000 nodes most of what it makes lives to its end, and
// a third of its time went into looking. The limit, a soft one, keeps it from taking more for that than a small host can spare.
func relax() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(400)
		debug.SetMemoryLimit(256 << 20)
	}
}

// app holds what all commands share.
type app struct {
	in, talk *os.File
	out      *output

	config, node, stateDir, runDir, logLevel, logFormat, color string
	vars                                                       []string

	deaf    func()      // has signals do what they do to any program
	started bool        // a command runs: errors are its own, not cobra's
	log     *zap.Logger // of a daemon, whose talk is its log; nil for all others
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "netd",
		Short: "A network for containers on bare hosts, from one file",
		Long: `netd makes the containers of many hosts one network, as one file says that is the same on every host.

Edit /etc/netd.hcl, look at what would change with netd plan, do it with netd apply, and leave netd run to keep it so.

Exit codes:
  0   done
  1   failed: what had been changed was undone, or is named
  2   plan --detailed-exitcode found changes
  3   degraded (status, drift, doctor, test, lab test)
  64  the command line is wrong
  69  no daemon runs
  75  someone else holds the host's lock
  77  no permission
  78  the configuration is bad`,
		Example:       "  netd validate\n  netd plan\n  netd apply\n  netd run",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			a.started = true
			if name := cmd.Name(); name != "run" && name != "speaker" {
				relax()
				context.AfterFunc(cmd.Context(), a.deaf) // what goes on after an interrupt a second one ends
			}
			return a.settle(cmd.Root().PersistentFlags())
		},
	}
	root.SetOut(a.out)
	root.SetErr(a.talk)
	f := root.PersistentFlags()
	f.StringVarP(&a.config, "config", "c", "/etc/netd.hcl", "the configuration: a file, or a folder of *.hcl and *.hcl.json files")
	f.StringVar(&a.node, "node", "", "the node of the file that this host is")
	f.StringVar(&a.stateDir, "state-dir", "/var/lib/netd", "what outlives a boot")
	f.StringVar(&a.runDir, "run-dir", "/run/netd", "sockets and locks")
	f.StringVar(&a.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&a.logFormat, "log-format", "console", "console or json")
	f.StringVar(&a.color, "color", "auto", "auto, always or never")
	f.StringArrayVar(&a.vars, "var", nil, "set a variable of the file: `x=value` (also NETD_VAR_x)")
	for flag, words := range wordsOf {
		_ = root.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	_ = root.RegisterFlagCompletionFunc("node", a.completeNodes)
	_ = root.MarkPersistentFlagDirname("state-dir")
	_ = root.MarkPersistentFlagDirname("run-dir")
	f.VisitAll(func(f *pflag.Flag) {
		if f.Name != "var" { // whose twins are NETD_VAR_x
			f.Usage += " (" + twin(f) + ")"
		}
	})
	root.SetFlagErrorFunc(flagError)
	setHelp(root)
	root.CompletionOptions.DisableDefaultCmd = true // completionCmd
	root.AddCommand(a.validateCmd(), a.fmtCmd(), a.planCmd(), a.applyCmd(), a.runCmd(), a.reloadCmd(), a.destroyCmd(),
		a.statusCmd(), a.driftCmd(), a.showCmd(), a.testCmd(), a.doctorCmd(), a.speakerCmd(), a.cniCmd(), a.dockerCmd(), a.labCmd(), a.completionCmd(), a.versionCmd())
	addLater(root)
	return root
}

// noArgs are the arguments of a command that takes none. Of a group they are a command that it does not have.
func noArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.HasSubCommands():
		var names []string
		for _, c := range cmd.Commands() {
			if !c.Hidden {
				names = append(names, c.Name())
			}
		}
		n := len(names) - 1
		return fmt.Errorf("unknown command %q for %q: want %s or %s", args[0], cmd.CommandPath(), strings.Join(names[:n], ", "), names[n])
	}
	text := fmt.Sprintf("%s takes no argument: %q", cmd.CommandPath(), args[0])
	if _, err := os.Stat(args[0]); err == nil { // as validate and fmt do
		text += "; a configuration is named with --config " + args[0]
	}
	return errors.New(text)
}

// settle sets each global flag that is not given from its twin in the environment, --state-dir from NETD_STATE_DIR, and
// checks those that take one of a few words.
func (a *app) settle(flags *pflag.FlagSet) error {
	flags.VisitAll(func(f *pflag.Flag) {
		if value := os.Getenv(twin(f)); value != "" && !f.Changed && f.Name != "var" {
			_ = f.Value.Set(value) // they are strings: there is no wrong one
		}
	})
	var errs []error
	for _, flag := range slices.Sorted(maps.Keys(wordsOf)) {
		words, value := wordsOf[flag], flags.Lookup(flag).Value.String()
		if n := len(words); !slices.Contains(words, value) {
			errs = append(errs, fmt.Errorf("--%s %s: want %s or %s", flag, value, strings.Join(words[:n-1], ", "), words[n-1]))
		}
	}
	for flag, dir := range map[string]string{"--run-dir": a.runDir, "--state-dir": a.stateDir} {
		if info, err := os.Stat(dir); err == nil && !info.IsDir() {
			errs = append(errs, fmt.Errorf("%s %s: it is a file; want a folder, which netd makes where there is none", flag, dir))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return &exit{exitUsage, err}
	}
	return nil
}

// wordsOf are the words that a global flag may have, where these are few.
var wordsOf = map[string][]string{
	"color":      {"auto", "always", "never"},
	"log-level":  {"debug", "info", "warn", "error"},
	"log-format": {"console", "json"},
}

func twin(f *pflag.Flag) string {
	return "NETD_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// waiting says what is waited for once that takes longer than 2 s. The function that it returns ends it.
func (a *app) waiting(what string) func() {
	t := time.AfterFunc(2*time.Second, func() {
		if a.log != nil {
			a.log.Info("waiting for " + what)
		} else {
			fmt.Fprintf(a.talk, "netd: waiting for %s\n", what)
		}
	})
	return func() { t.Stop() }
}

// variables are those of the environment and of --var, which wins.
func (a *app) variables() (map[string]string, error) {
	vars := config.VarsFromEnv(os.Environ())
	for _, v := range a.vars {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return nil, fail(exitUsage, "--var %s: want x=value", v)
		}
		vars[name] = value
	}
	return vars, nil
}

// read reads a configuration, unparsed.
func (a *app) read(path string) (*config.Source, error) {
	vars, err := a.variables()
	if err != nil {
		return nil, err
	}
	s, err := config.Read(path, vars)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, a.nowhere(path, err)
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, &exit{exitNoPerm, err}
		}
		return nil, &exit{exitConfig, err}
	}
	return s, nil
}

// nowhere says what to do about a configuration that is not there.
func (a *app) nowhere(path string, err error) error {
	if to, lerr := os.Readlink(path); lerr == nil {
		return fail(exitConfig, "%w: it is a link to %s, where there is nothing", err, to)
	}
	own, _ := filepath.Abs(a.config)
	if asked, _ := filepath.Abs(path); asked != own {
		return &exit{exitConfig, err}
	}
	return fail(exitConfig, "%w; write it, or name another with --config", err)
}

// load reads and parses a configuration; its faults are printed.
func (a *app) load(path string) (*config.Source, *config.Config, error) {
	s, err := a.read(path)
	if err != nil {
		return nil, nil, err
	}
	done := a.waiting("the configuration to be evaluated")
	c, ds := parse(s)
	if done(); len(ds) > 0 {
		_ = ds.Write(a.page(a.talk), a.mark)
	}
	if ds.HasErrors() {
		return nil, nil, &exit{code: exitConfig}
	}
	return s, c, nil
}

// output is stdout: it remembers the first write that failed, for those who do not look. A pipe that nobody reads any more ends
// the process at once, quietly.
type output struct {
	file *os.File
	err  error
}

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	n, err := o.file.Write(b)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// Fd is as of an os.File.
func (o *output) Fd() uintptr { return o.file.Fd() }

// descriptor is a stream that may be a terminal.
type descriptor interface {
	io.Writer
	Fd() uintptr
}

// colored reports whether w is to be coloured.
func (a *app) colored(w descriptor) bool {
	switch a.color {
	case "always":
		return true
	case "never":
		return false
	}
	return os.Getenv("NO_COLOR") == "" && isTerminal(w)
}

func isTerminal(f interface{ Fd() uintptr }) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	dim    = "\x1b[2m"
	plain  = "\x1b[0m"

	clearScreen = "\x1b[H\x1b[2J\x1b[3J"
)

func (a *app) mark(severity, text string) string {
	if !a.colored(a.talk) {
		return text
	}
	if severity == "error" {
		return red + text + plain
	}
	return yellow + text + plain
}

// printJSON writes one JSON value for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
