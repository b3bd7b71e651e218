package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// LogFunc takes one event. level is "debug", "info", "warn" or "error".
type LogFunc func(level, msg string, fields map[string]any)

// gobgpLog is gobgp's logger. gobgp's API tells of no error, so that what it logs is the only word on why a session is not
// up: heard gets that, by neighbour.
type gobgpLog struct {
	log     LogFunc
	heard   func(peer netip.Addr, words string, then remedy)
	update  func(gobgplog.Fields) // is told of each UPDATE, where limited says so
	state   func(gobgplog.Fields) // is told of each change of state, before it is made, under the lock of the neighbour
	limited func() bool
	fatal   chan<- error
}

// remedy is what is done about a session of which gobgp says something: it does not do so itself.
type remedy int

const (
	none   remedy = iota
	forget        // its hold timer ran out: see sessions.expired
	reset         // it sent what cannot be read: see sessions.unread
)

func (l *gobgpLog) Panic(msg string, f gobgplog.Fields) {
	l.tell("error", msg, f)
	panic(msg)
}

// Fatal is gobgp's word for "exit". The goroutine ends here and Serve returns the error.
func (l *gobgpLog) Fatal(msg string, f gobgplog.Fields) {
	l.tell("error", msg, f)
	err := fmt.Errorf("gobgp: %s", msg)
	if cause, ok := f["Err"].(error); ok {
		err = fmt.Errorf("gobgp: %s: %w", msg, cause)
	}
	select {
	case l.fatal <- err:
	default:
	}
	runtime.Goexit()
}

func (l *gobgpLog) Error(msg string, f gobgplog.Fields) { l.tell("error", msg, f) }
func (l *gobgpLog) Warn(msg string, f gobgplog.Fields)  { l.tell("warn", msg, f) }
func (l *gobgpLog) Info(msg string, f gobgplog.Fields)  { l.tell("info", msg, f) }
func (l *gobgpLog) SetLevel(gobgplog.LogLevel)          {}

// Debug logs nothing, but tells of UPDATEs and changes of state: see limits and tries. gobgp asks for the level before it tells of UPDATEs.
func (l *gobgpLog) Debug(msg string, f gobgplog.Fields) {
	switch msg {
	case "received update":
		l.update(f)
	case "state changed":
		l.state(f)
	}
}

// GetLevel is asked for at each path and neighbour, and "debug" has gobgp tell more than UPDATEs: none of it once that is told.
func (l *gobgpLog) GetLevel() gobgplog.LogLevel {
	if l.limited() {
		return gobgplog.DebugLevel
	}
	return gobgplog.InfoLevel
}

func (l *gobgpLog) tell(level, msg string, f gobgplog.Fields) {
	fields := make(map[string]any, len(f))
	for k, v := range f {
		switch k {
		case "Topic":
		case "Key":
			fields["peer"] = fmt.Sprint(v)
		default:
			fields[strings.ToLower(k)] = fmt.Sprint(v)
		}
	}
	l.log(level, msg, fields)
	key, _ := f["Key"].(string)
	if peer, err := netip.ParseAddr(key); err == nil {
		if words := inWords(msg, f); words != "" {
			l.heard(peer, words, remedyFor(msg, f))
		}
	}
}

// inWords is what a message of gobgp's means for the session that it is about; empty where it is no error.
func inWords(msg string, f gobgplog.Fields) string {
	switch msg {
	case "Peer Down":
		reason := fmt.Sprint(f["Reason"])
		switch reason {
		case "read-failed", "write-failed":
			return connectionLost
		case "graceful-restart":
			return connectionLost + "; its routes stay for its restart time"
		case "admin-down":
			return "shut down by hand"
		case "dying", "de-configured", "hold-timer-expired":
			return "" // said better elsewhere, or our own doing
		}
		if strings.HasPrefix(reason, "notification-") {
			return "" // logged by itself, with more detail
		}
		return reason
	case "hold timer expired":
		return "hold timer expired: nothing was heard from it"
	case "graceful restart timer expired":
		return neverBack
	case "failed to send": // gobgp gives each message as long as the hold time is
		if err, ok := f["Data"].(error); ok && errors.Is(err, os.ErrDeadlineExceeded) {
			return "it took nothing of what was sent for the hold time, or asks for a hold time of 0: set one of 3 s or more there"
		}
	case "sent notification", "received notification":
		return notificationInWords(msg, f)
	case "prefix limit reached":
		if f["Pct"] == nil {
			return "max_prefixes: it announces more prefixes than it may"
		}
	case "the received Update message was treated as withdraw":
		return "it sent a malformed UPDATE, which is taken for a withdrawal" + malformed(f)
	case "Capability was disabled", "Error occurred during AFI/SAFI disabling":
		return "it sent an UPDATE that cannot be read to its end" + malformed(f)
	case "Some attributes were discarded":
		return "it sent malformed attributes, which are left out" + malformed(f)
	case "Mismatched local address":
		return fmt.Sprintf("it dials %v, the session is bound to %v", f["Addr"], f["Configured addr"])
	case "failed to set md5":
		return fmt.Sprintf("setting the password on the listener: %v", f["Err"])
	}
	return ""
}

// remedyFor is what is done about a message of gobgp's.
//
// Of an UPDATE with an MP_REACH_NLRI that it cannot read gobgp looks at nothing else, and where an attribute reaches beyond the end
// of the message it takes a withdrawal of prefixes that it has not read yet, which is one of nothing (DecodeFromBytes of BGPUpdate in
// its pkg/packet/bgp/bgp.go): what the neighbour told before would stay.
func remedyFor(msg string, f gobgplog.Fields) remedy {
	switch msg {
	case "hold timer expired":
		return forget
	case "Capability was disabled", "Error occurred during AFI/SAFI disabling":
		return reset
	case "the received Update message was treated as withdraw":
		if e, ok := f["Error"].(*bgp.MessageError); ok && (e.Message == "attribute value length is short" || e.Message == "attribute length is short") {
			return reset
		}
	}
	return none
}

// malformed is what is wrong with an UPDATE (RFC 7606), in one of few words, since whoever sends one may send many.
func malformed(f gobgplog.Fields) string {
	e, ok := f["Error"].(*bgp.MessageError)
	if !ok {
		return ""
	}
	return ": " + notified(e.TypeCode, e.SubTypeCode)
}

func notificationInWords(msg string, f gobgplog.Fields) string {
	who := "it closed the session"
	if msg == "sent notification" {
		who = "this end closed the session"
	}
	if e, ok := f["Data"].(*bgp.MessageError); ok {
		if e.TypeCode == bgp.BGP_ERROR_HOLD_TIMER_EXPIRED && msg == "sent notification" {
			return ""
		}
		var expected, offered uint32
		if n, _ := fmt.Sscanf(e.Message, "as number mismatch expected %d, received %d", &expected, &offered); n == 2 {
			return fmt.Sprintf("AS %d offered, %d expected", offered, expected)
		}
		return who + ": " + e.Message
	}
	code, ok1 := f["Code"].(uint8)
	sub, ok2 := f["Subcode"].(uint8)
	if !ok1 || !ok2 {
		return who
	}
	if code == bgp.BGP_ERROR_HOLD_TIMER_EXPIRED && msg == "sent notification" {
		return "" // of a session that was up it is said by itself, and of one that was not, still knows what was missing
	}
	if code == bgp.BGP_ERROR_OPEN_MESSAGE_ERROR && sub == bgp.BGP_ERROR_SUB_BAD_PEER_AS {
		return who + ": it expects another AS than this node's"
	}
	words := who + ": " + notified(code, sub)
	if text, _ := f["Communicated-Reason"].(string); text != "" { // RFC 9003
		words += `: "` + printable(text) + `"`
	}
	return words
}

// printable keeps what a neighbour, or a speaker, says from writing on a terminal, and from filling one.
func printable(s string) string {
	if len(s) > textMost {
		s = strings.ToValidUTF8(s[:textMost], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}

// bound keeps a log that nobody rotates, since this process alone has it open, below a size: past it the older half goes.
func bound(f *os.File, size int64) error {
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() <= size {
		return err
	}
	tail := make([]byte, size/2)
	n, err := f.ReadAt(tail, st.Size()-size/2)
	if err != nil {
		return fmt.Errorf("shortening the log: %w", err)
	}
	tail = tail[:n]
	if i := strings.IndexByte(string(tail), '\n'); i >= 0 {
		tail = tail[i+1:]
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("shortening the log: %w", err)
	}
	// Opened for appending, so that this lands at the beginning of what is empty now.
	if _, err := f.Write(tail); err != nil {
		return fmt.Errorf("shortening the log: %w", err)
	}
	return nil
}

// lastWords are the last lines of a speaker's log: where it ended by a panic, that and where it happened.
func lastWords(path string) []string {
	const most = 64 << 10
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	b := make([]byte, min(st.Size(), most))
	n, err := f.ReadAt(b, st.Size()-int64(len(b)))
	if err != nil && n == 0 {
		return nil
	}
	return lastOf(string(b[:n]))
}

// Unit is the unit of a speaker that systemd starts.
const Unit = "netd-speaker.service"

// journalWords are the last lines of a speaker that systemd started, whose log is the journal.
func journalWords() []string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	b, err := exec.CommandContext(ctx, "journalctl", "--quiet", "--unit="+Unit, "--lines=200", "--output=cat").Output()
	if err != nil || len(b) == 0 {
		return []string{"what it wrote is in the log of who starts it (journalctl -u " + Unit + ")"}
	}
	return lastOf(string(b))
}

func lastOf(log string) []string {
	lines := strings.Split(strings.TrimSpace(printableLines(log)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], "panic:") || strings.HasPrefix(lines[i], "fatal error:") {
			return lines[i:min(i+8, len(lines))]
		}
	}
	return lines[max(0, len(lines)-4):]
}

func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = printable(strings.ReplaceAll(lines[i], "\t", "  "))
	}
	return strings.Join(lines, "\n")
}
