// Command vm runs a static test binary as the first program of a guest kernel under QEMU, for what the host's kernel lacks:
//
//	CGO_ENABLED=0 go test -exec "vm -boot DIR" ./reconcile/kernel
//
// DIR holds vmlinuz and modules/ (kernel.sh makes it). The initramfs holds this program as init, the test binary, the
// modules, and the tools that tests call, with their libraries. The exit code is the test's; 125 where the guest itself
// failed: a module that is missing, a panic, or too much time.
package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// broken is the exit code of a guest that failed itself.
const broken = 125

// wanted are the modules that tests need; what these need in turn is found in themselves.
var wanted = []string{"veth", "ipip", "vxlan", "bridge", "bonding", "8021q", "nf_tables", "nft_chain_nat", "nft_masq", "nft_nat", "nft_ct", "nft_counter", "nft_fib_inet", "nft_fib_ipv4", "nft_fib_ipv6", "af_packet"}

// tools are the programs that tests call.
var tools = []string{"ip", "bridge", "nft", "ping", "tcpdump", "socat", "ethtool", "sysctl", "sh", "cat", "sleep", "mkdir", "modprobe", "depmod", "busybox", "dnsmasq"}

func main() {
	if os.Getpid() == 1 {
		initMain()
		return
	}
	boot := flag.String("boot", "", "folder with vmlinuz and modules/")
	limit := flag.Duration("limit", 8*time.Minute, "end the guest after this time")
	must := flag.String("must", "", "fail unless each of these tests, separated by commas, passed")
	later := flag.String("later", "", "leave modules whose names begin with one of these, separated by commas, to the test, which finds them in /later")
	more := flag.String("append", "", "what the kernel's command line has besides")
	flag.Parse()
	if *boot == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(broken)
	}
	list := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }
	code, err := run(*boot, *more, *limit, list(*later), list(*must), flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
	}
	os.Exit(code)
}

const exitLine = "netd-vm: exit "

// run runs the guest and returns the test's exit code. Each test of must has to have passed in it.
func run(boot, more string, limit time.Duration, later, must, args []string) (int, error) {
	dir, err := os.MkdirTemp("", "netd-vm-")
	if err != nil {
		return broken, err
	}
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, "initramfs")
	if err := writeImage(image, boot, later, args); err != nil {
		return broken, fmt.Errorf("making the guest's files: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "qemu64,+rdrand", "-m", "768", "-nographic", "-no-reboot",
		"-nic", "none", "-kernel", filepath.Join(boot, "vmlinuz"), "-initrd", image, "-append", "console=ttyS0 panic=-1 quiet "+more)
	out, err := qemu.StdoutPipe()
	if err != nil {
		return broken, err
	}
	qemu.Stderr = os.Stderr
	if err := qemu.Start(); err != nil {
		return broken, err
	}
	code := broken
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		text := strings.TrimRight(line, "\r\n")
		if _, after, ok := strings.Cut(text, "--- PASS: "); ok {
			must = slices.DeleteFunc(must, func(name string) bool { return name == strings.Fields(after)[0] })
		}
		if _, after, ok := strings.Cut(text, exitLine); ok {
			if code, err = strconv.Atoi(strings.TrimSpace(after)); err != nil {
				code = broken
			}
		} else if line != "" && !strings.Contains(text, "\x1b") && !strings.Contains(text, "SeaBIOS") { // the firmware's own words
			fmt.Println(text)
		}
		if err != nil {
			break
		}
	}
	err = qemu.Wait()
	switch {
	case ctx.Err() != nil:
		return broken, fmt.Errorf("the guest did not end within %s", limit)
	case err != nil:
		return broken, fmt.Errorf("the guest: %w", err)
	case code == broken:
		return broken, errors.New("the guest ended without the test's exit code: a panic, or a module that is missing")
	case code == 0 && len(must) > 0:
		return broken, fmt.Errorf("these did not run: %s", strings.Join(must, ", "))
	}
	return code, nil
}

// cpio writes the format that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst, newc).
type cpio struct {
	w    *bufio.Writer
	size int
	ino  int
	has  map[string]bool
	err  error
}

func (c *cpio) entry(name string, mode uint32, data []byte) {
	if c.has[name] || c.err != nil {
		return
	}
	c.has[name] = true
	for dir := filepath.Dir(name); dir != "." && !c.has[dir]; dir = filepath.Dir(name) {
		c.folder(dir)
	}
	c.raw(name, mode, data)
}

func (c *cpio) folder(name string) {
	if name == "." || c.has[name] {
		return
	}
	c.folder(filepath.Dir(name))
	c.has[name] = true
	c.raw(name, unix.S_IFDIR|0o755, nil)
}

func (c *cpio) raw(name string, mode uint32, data []byte) {
	c.ino++
	head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	c.pad([]byte(head + name + "\x00"))
	c.pad(data)
}

func (c *cpio) pad(b []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(b)
	}
	c.size += len(b)
	for ; c.size%4 != 0 && c.err == nil; c.size++ {
		c.err = c.w.WriteByte(0)
	}
}

func (c *cpio) file(name, from string) {
	b, err := os.ReadFile(from)
	if err != nil {
		c.err = errors.Join(c.err, err)
		return
	}
	c.entry(name, unix.S_IFREG|0o755, b)
}

func writeImage(image, boot string, later, args []string) error {
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	defer f.Close()
	c := &cpio{w: bufio.NewWriterSize(f, 1<<20), has: map[string]bool{}}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	c.file("init", own)
	c.file("test.bin", args[0])
	var env []string
	for _, e := range os.Environ() {
		if program, ok := strings.CutPrefix(e, "NETD_BENCH_PROGRAM="); ok {
			c.file("program", program)
			e = "NETD_BENCH_PROGRAM=/program"
		}
		if strings.HasPrefix(e, "NETD_") || strings.HasPrefix(e, "CI=") {
			env = append(env, e)
		}
	}
	c.entry("etc/passwd", unix.S_IFREG|0o644, []byte("root:x:0:0:root:/:/bin/sh\n"))
	c.entry("etc/group", unix.S_IFREG|0o644, []byte("root:x:0:\n"))
	c.entry("args", unix.S_IFREG|0o644, []byte(strings.Join(args[1:], "\x00")))
	c.entry("env", unix.S_IFREG|0o644, []byte(strings.Join(env, "\x00")))
	order, err := modules(filepath.Join(boot, "modules"))
	if err != nil {
		return err
	}
	for i, path := range order {
		name, dir := filepath.Base(path), "modules"
		if slices.ContainsFunc(later, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			dir = "later"
		}
		c.file(fmt.Sprintf("%s/%03d-%s", dir, i, name), path)
	}
	for _, t := range tools {
		if err := c.tool(t); err != nil {
			return err
		}
	}
	for _, dir := range []string{"proc", "sys", "dev", "tmp", "run", "etc"} {
		c.folder(dir)
	}
	c.raw("TRAILER!!!", 0, nil)
	return errors.Join(c.err, c.w.Flush())
}

// tool adds a program with the libraries that it says it needs.
func (c *cpio) tool(name string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/sbin"} {
			if _, serr := os.Stat(filepath.Join(dir, name)); serr == nil {
				path, err = filepath.Join(dir, name), nil
			}
		}
	}
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	c.file("bin/"+name, real)
	return c.libraries(real)
}

var libraryFolders = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}

func (c *cpio) libraries(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	if s := f.Section(".interp"); s != nil {
		b, err := s.Data()
		if err != nil {
			return err
		}
		loader := string(bytes.TrimRight(b, "\x00"))
		c.file(strings.TrimPrefix(loader, "/"), loader)
	}
	for _, lib := range needed {
		i := slices.IndexFunc(libraryFolders, func(dir string) bool { _, err := os.Stat(filepath.Join(dir, lib)); return err == nil })
		if i < 0 {
			return fmt.Errorf("%s needs %s, which is in none of %v", path, lib, libraryFolders)
		}
		from := filepath.Join(libraryFolders[i], lib)
		if name := "lib/" + lib; !c.has[name] {
			c.file(name, from)
			if err := c.libraries(from); err != nil {
				return err
			}
		}
	}
	return nil
}

// modules lists the files of the wanted modules, each after those that it depends on. One that is built into the kernel has
// none.
func modules(dir string) ([]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, ok := strings.CutSuffix(d.Name(), ".ko"); ok {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var order []string
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		path, ok := files[name]
		if seen[name] || !ok {
			return nil
		}
		seen[name] = true
		f, err := elf.Open(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		defer f.Close()
		info := f.Section(".modinfo")
		if info == nil {
			return fmt.Errorf("%s has no .modinfo", path)
		}
		b, err := info.Data()
		if err != nil {
			return err
		}
		for _, field := range strings.Split(string(b), "\x00") {
			if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
				for _, on := range strings.Split(list, ",") {
					if err := add(on); err != nil {
						return err
					}
				}
			}
		}
		order = append(order, path)
		return nil
	}
	for _, name := range wanted {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	if !seen["ipip"] {
		return nil, errors.New("this kernel has no module ipip")
	}
	return order, nil
}

// initMain is the guest's first program.
func initMain() {
	code, err := guest()
	if err != nil {
		fmt.Println("vm: in the guest:", err)
	}
	fmt.Printf("\n%s%d\n", exitLine, code)
	_ = os.Stdout.Sync()
	time.Sleep(50 * time.Millisecond) // the serial line drains
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func guest() (int, error) {
	for _, m := range [][3]string{{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"}, {"tmpfs", "/tmp", "tmpfs"}, {"tmpfs", "/run", "tmpfs"}} {
		if err := unix.Mount(m[0], m[1], m[2], 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return broken, fmt.Errorf("mounting %s: %w", m[1], err)
		}
	}
	_ = os.Chmod("/tmp", 0o1777)
	list, err := filepath.Glob("/modules/*")
	if err != nil {
		return broken, err
	}
	slices.Sort(list)
	for _, path := range list {
		f, err := os.Open(path)
		if err != nil {
			return broken, err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		_ = f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return broken, fmt.Errorf("loading %s: %w", path, err)
		}
	}
	read := func(name string) []string {
		b, _ := os.ReadFile(name)
		if len(b) == 0 {
			return nil
		}
		return strings.Split(string(b), "\x00")
	}
	cmd := exec.Command("/test.bin", read("/args")...)
	cmd.Env = append(read("/env"), "PATH=/bin", "HOME=/tmp", "NETD_GUEST=1")
	cmd.Dir = "/tmp"
	cmd.Stdout, cmd.Stderr = io.Writer(os.Stdout), os.Stdout
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	}
	return broken, err
}
