package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/workload"
)

// planView is a plan as `plan --json` prints it and as it travels between daemon and command line. The text is made from
// it alone, so that both show the same.
type planView struct {
	SchemaVersion int                  `json:"schema_version"`
	Node          string               `json:"node"`
	ThisHost      bool                 `json:"this_host"`
	Networks      []networkView        `json:"networks"`
	Config        string               `json:"config"` // digest
	Outside       []changeView         `json:"changed_outside"`
	Changes       []changeView         `json:"changes"`
	Conflicts     []reconcile.Conflict `json:"conflicts"`
	Pending       []workload.Pending   `json:"pending"`
	Notes         []string             `json:"notes"`
	Harms         []string             `json:"needs_allow_destroy"` // what of it cuts others off
	Summary       reconcile.Counts     `json:"summary"`
	ID            string               `json:"id"` // of the configuration and the changes: an apply names the plan that was agreed to
}

type networkView struct {
	Name string      `json:"name"`
	Mode config.Mode `json:"mode"`
}

// changeView is a change in JSON; what is not printed stays as it came.
type changeView struct {
	Op      string          `json:"op"`
	Key     string          `json:"key"`
	Kind    string          `json:"kind"`
	Name    string          `json:"name"`
	Have    resourceView    `json:"have"`
	Want    resourceView    `json:"want"`
	Because reconcile.Cause `json:"because"`
	Text    string          `json:"text"`
}

func newPlanView(c *config.Config, node string, plan reconcile.Plan) planView {
	v := planView{SchemaVersion: 1, Node: node, Changes: []changeView{}, Outside: []changeView{}, Conflicts: plan.Conflicts, Summary: plan.Counts(),
		Networks: []networkView{}, Pending: []workload.Pending{}, Notes: []string{}, Harms: []string{}}
	if v.Conflicts == nil {
		v.Conflicts = []reconcile.Conflict{}
	}
	if c != nil {
		v.Config = c.Digest
		for _, n := range c.Networks {
			v.Networks = append(v.Networks, networkView{n.Name, n.Mode})
		}
	}
	for _, change := range plan.Changes {
		if change.Drift {
			change.Because = reconcile.Cause{Text: "repair", File: change.Because.File, Line: change.Because.Line}
		}
		v.Changes = append(v.Changes, viewOf(change))
		if change.Drift {
			back := reconcile.Change{Key: change.Key, Have: change.Want, Want: change.Have, Because: change.Because}
			switch change.Op {
			case reconcile.Create:
				back.Op = reconcile.Delete
			case reconcile.Update:
				back.Op = reconcile.Update
			case reconcile.Delete:
				back.Op = reconcile.Create
			}
			v.Outside = append(v.Outside, viewOf(back))
		}
	}
	h := sha256.New()
	fmt.Fprintln(h, v.Config)
	for _, c := range v.Changes {
		fmt.Fprintf(h, "%s %s %s\n", c.Op, c.Key, c.Text)
	}
	v.ID = hex.EncodeToString(h.Sum(nil))[:16]
	return v
}

func viewOf(c reconcile.Change) changeView {
	return changeView{Op: c.Op.String(), Key: c.Key.String(), Kind: c.Key.Kind, Name: c.Key.Name, Because: c.Because, Text: c.Text(),
		Have: resourceView{r: c.Have}, Want: resourceView{r: c.Want}}
}

// resourceView is a resource on its way to JSON, or the JSON of one that came over the socket.
type resourceView struct {
	r   reconcile.Resource
	raw json.RawMessage
}

func (v resourceView) MarshalJSON() ([]byte, error) {
	if v.raw != nil {
		return v.raw, nil
	}
	return reconcile.JSON(v.r)
}

func (v *resourceView) UnmarshalJSON(b []byte) error {
	v.raw = append(v.raw[:0], b...)
	return nil
}

var symbols = map[string]string{"create": "+", "update": "~", "delete": "-"}

// write prints the plan for people.
func (v planView) write(w page) {
	host := v.Node
	if v.ThisHost {
		host += " (this host)"
	}
	var nets []string
	for _, n := range v.Networks {
		nets = append(nets, fmt.Sprintf("network %s, %s", n.Name, n.Mode))
	}
	if len(nets) > 0 {
		fmt.Fprintf(w, "%s: %s. Config %.7s\n", host, strings.Join(nets, "; "), v.Config)
	}
	for _, n := range v.Notes {
		fmt.Fprintf(w, "Note: %s\n", n)
	}
	writePending(w, v.Pending)
	if len(v.Outside) > 0 {
		fmt.Fprint(w, "\nChanged outside netd:\n")
		writeChanges(w, v.Outside, false)
	}
	if len(v.Conflicts) > 0 {
		fmt.Fprintln(w)
	}
	writeConflicts(w, v.Conflicts)
	if len(v.Changes) == 0 {
		switch {
		case v.Config == "": // of a destroy
			fmt.Fprintln(w, "No changes. Nothing of netd is on this host.")
		case len(v.Conflicts) == 0:
			fmt.Fprintln(w, "No changes. The host matches the configuration.")
		}
		return
	}
	if len(nets)+len(v.Notes)+len(v.Outside)+len(v.Conflicts) > 0 { // nothing stands above a destroy
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "netd will:")
	left := writeChanges(w, v.Changes, true)
	fmt.Fprintf(w, "\nPlan: %s.\n", v.Summary)
	if left {
		fmt.Fprintln(w, "Some causes do not fit here: a wider terminal, a pipe or --json shows them.")
	}
	if len(v.Harms) > 0 {
		fmt.Fprint(w, "\nOnly with --allow-destroy:\n")
		for _, h := range v.Harms {
			fmt.Fprintf(w, "  %s\n", h)
		}
	}
}

// agreement is what the user agreed to.
type agreement struct {
	ID           string `json:"id,omitempty"`            // of the plan that was shown; empty for any
	AllowDestroy bool   `json:"allow_destroy,omitempty"` // what cuts others off too
}

func (a agreement) stale(v planView) bool   { return a.ID != "" && a.ID != v.ID }
func (a agreement) refuses(v planView) bool { return !a.AllowDestroy && len(v.Harms) > 0 }

// refused is the error of a plan that is not carried out since it cuts others off.
func refused(v planView) error {
	return fail(exitFailed, "refused, and nothing was changed: the plan cuts others off. If that is meant, netd apply --allow-destroy does it:\n  %s",
		strings.Join(v.Harms, "\n  "))
}

func writeConflicts(w io.Writer, conflicts []reconcile.Conflict) {
	if len(conflicts) == 0 {
		return
	}
	fmt.Fprintln(w, "Conflicts:")
	for _, c := range conflicts {
		fmt.Fprintf(w, "  %s; netd leaves it alone\n", conflict(c))
		if n := len(c.Without); n > 0 {
			fmt.Fprintf(w, "    left out with it: %s\n", keyList(c.Without))
		}
	}
}

// conflict says what stands in the place of an object. What is there is named only where its name is another.
func conflict(c reconcile.Conflict) string {
	who := "of " + c.Who
	if strings.HasPrefix(c.Who, "not ") { // no name, but a clause
		who = c.Who
	}
	return fmt.Sprintf("%s: %s stands there, %s", c.Key, strings.TrimPrefix(c.What, c.Key.String()+" "), who)
}

func keyList(keys []reconcile.Key) string {
	var out []string
	for i, k := range keys {
		if i == 5 {
			out = append(out, fmt.Sprintf("and %d more", len(keys)-i))
			break
		}
		out = append(out, k.String())
	}
	return strings.Join(out, ", ")
}

// widest is how far a column may push the next one to the right.
const widest = 44

// writeChanges prints changes in columns, all of one width. On a terminal that is too narrow for that each kind has columns of
// its own or none, and a cause that does not fit is left out; left says that one was.
func writeChanges(w page, changes []changeView, causes bool) (left bool) {
	kind, names, texts := 6, map[string]int{}, map[string]int{}
	column := func(widths map[string]int, kind, text string) {
		if n := utf8.RuneCountInString(text); n <= widest {
			widths[kind], widths[""] = max(widths[kind], n), max(widths[""], n)
		}
	}
	for _, c := range changes {
		kind = max(kind, len(c.Kind))
		column(names, c.Kind, c.Name)
		column(texts, c.Kind, c.Text)
	}
	// What is very wide takes of the next column's room, so that the causes stay in one column where they can.
	row := func(c changeView, of string) string {
		line := fmt.Sprintf("  %s %-*s %-*s  %s", symbols[c.Op], kind, c.Kind, names[of], c.Name, c.Text)
		if causes && c.Because.Text != "" {
			line = fmt.Sprintf("%-*s  # %s", 4+kind+1+names[of]+2+texts[of], line, c.Because.Text)
		}
		return strings.TrimRight(line, " ")
	}
	narrow := w.width > 0 && slices.ContainsFunc(changes, func(c changeView) bool { return columns(row(c, "")) > w.width })
	for _, c := range changes {
		line, cut := row(c, ""), false
		if narrow {
			if line = row(c, c.Kind); columns(line) > w.width {
				line, _, cut = strings.Cut(line, "  # ")
				line, left = strings.TrimRight(line, " "), left || cut
			}
			if columns(line) > w.width {
				line = fmt.Sprintf("  %s %-*s %s  %s", symbols[c.Op], kind, c.Kind, c.Name, c.Text)
			}
		}
		if w.color {
			line = map[string]string{"create": green, "update": yellow, "delete": red}[c.Op] + line + plain
		}
		fmt.Fprintln(w, line)
	}
	return left
}

// since says in what a plan differs from the one that was agreed to.
func (v planView) since(agreed planView) []string {
	var out []string
	if v.Config != agreed.Config {
		out = append(out, fmt.Sprintf("the configuration is %.7s now, it was %.7s", v.Config, agreed.Config))
	}
	only := func(word string, in, notIn planView) {
		there := map[string]bool{}
		line := func(c changeView) string { return strings.TrimRight(symbols[c.Op]+" "+c.Key+"  "+c.Text, " ") }
		for _, c := range notIn.Changes {
			there[line(c)] = true
		}
		for _, c := range in.Changes {
			if l := line(c); !there[l] {
				out = append(out, word+": "+l)
			}
		}
	}
	only("no longer", agreed, v)
	only("now also", v, agreed)
	if n := len(out); n > shown {
		out = append(out[:shown], fmt.Sprintf("and %d more", n-shown))
	}
	return out
}

// applyView is the outcome of an apply or a destroy.
type applyView struct {
	SchemaVersion int              `json:"schema_version"`
	Plan          planView         `json:"plan"`
	Done          int              `json:"done"`
	Applied       reconcile.Counts `json:"applied"`
	Errors        []string         `json:"errors"`
	Note          string           `json:"note,omitempty"`    // a word on how the speaker ended
	Stale         bool             `json:"stale,omitempty"`   // nothing was done: the plan is not the one that was agreed to
	Refused       bool             `json:"refused,omitempty"` // nothing was done: it needs --allow-destroy
}

func (v applyView) write(w io.Writer, verb string) {
	if v.Note != "" {
		fmt.Fprintf(w, "Note: %s\n", v.Note)
	}
	if len(v.Errors) == 0 && v.Done > 0 {
		fmt.Fprintf(w, "%s: %d added, %d changed, %d destroyed. Read back: as planned.\n", verb, v.Applied.Add, v.Applied.Change, v.Applied.Destroy)
	}
}
