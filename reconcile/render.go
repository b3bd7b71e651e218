package reconcile

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Difference says in words how two resources of one key differ: "mtu 1450 -> 1400".
func Difference(have, want Resource) string {
	switch {
	case have == nil && want == nil:
		return ""
	case have == nil:
		return "absent, wanted " + Describe(want)
	case want == nil:
		return "there, not wanted"
	}
	old := map[string]string{}
	for _, f := range have.Fields() {
		old[f.Name] = f.Value
	}
	var parts []string
	for _, f := range want.Fields() {
		was, there := old[f.Name]
		switch {
		case !there:
			parts = append(parts, f.Name+" "+oneLine(f.Value))
		case was != f.Value:
			name := f.Name + " "
			if f.Name == "value" { // a sysctl's only field: its name says nothing
				name = ""
			}
			parts = append(parts, name+oneLine(was)+" -> "+oneLine(f.Value))
		}
	}
	return strings.Join(parts, ", ")
}

// oneLine is a value as a line of a plan has it: a chain's rules are counted there, not spelled out.
func oneLine(s string) string {
	if n := strings.Count(s, "\n"); n > 0 {
		return fmt.Sprintf("%d lines", n+1)
	}
	if s == "" {
		return `""`
	}
	return s
}

// Summarizer is implemented by resources that read better than as a list of their fields.
type Summarizer interface {
	Summary() string // "via 192.168.170.138 dev tunl0 onlink"
}

// Describe is a resource's attributes on one line.
func Describe(r Resource) string {
	if s, ok := r.(Summarizer); ok {
		return s.Summary()
	}
	var parts []string
	for _, f := range r.Fields() {
		if f.Value != "" {
			parts = append(parts, f.Name+" "+oneLine(f.Value))
		}
	}
	return strings.Join(parts, ", ")
}

// Text is what one change does, without its symbol, kind and name.
func (c Change) Text() string {
	switch c.Op {
	case Create:
		return Describe(c.Want)
	case Update:
		return Difference(c.Have, c.Want)
	default:
		return Describe(c.Have)
	}
}

// Counts are the numbers in a plan's last line.
type Counts struct {
	Add     int `json:"add"`
	Change  int `json:"change"`
	Destroy int `json:"destroy"`
}

// Counts counts the changes by what they do.
func (p Plan) Counts() Counts {
	var n Counts
	for i := range p.Changes {
		n.Count(p.Changes[i].Op)
	}
	return n
}

// Count counts one change more.
func (n *Counts) Count(op Op) {
	switch op {
	case Create:
		n.Add++
	case Update:
		n.Change++
	case Delete:
		n.Destroy++
	}
}

func (n Counts) String() string {
	return fmt.Sprintf("%d to add, %d to change, %d to destroy", n.Add, n.Change, n.Destroy)
}

// resourceJSON is the shape of a resource on the wire and in files.
type resourceJSON struct {
	Kind     string     `json:"kind"`
	Name     string     `json:"name"`
	Fields   fieldsJSON `json:"fields"`
	Requires []string   `json:"requires"`
	Text     string     `json:"text,omitempty"` // as tables and plans print it
}

// fieldsJSON keeps the order of fields, which a map would lose.
type fieldsJSON []Field

func (f fieldsJSON) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, field := range f {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(field.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(field.Value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}

func encode(r Resource) *resourceJSON {
	if r == nil {
		return nil
	}
	k := r.Key()
	out := &resourceJSON{Kind: k.Kind, Name: k.Name, Fields: r.Fields(), Requires: []string{}, Text: Describe(r)}
	for _, on := range r.Requires() {
		out.Requires = append(out.Requires, on.String())
	}
	return out
}

// JSON is a resource as it is written in JSON: {"kind","name","fields":{…},"requires":[…]}, null for none.
func JSON(r Resource) ([]byte, error) { return json.Marshal(encode(r)) }

// MarshalJSON writes {"op","key","have","want","because"}; have and want as {"kind","name","fields":{…},"requires":[…]}.
func (c Change) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Op      string        `json:"op"`
		Key     string        `json:"key"`
		Kind    string        `json:"kind"`
		Name    string        `json:"name"`
		Have    *resourceJSON `json:"have"`
		Want    *resourceJSON `json:"want"`
		Because Cause         `json:"because"`
		Drift   bool          `json:"drift"`
		Text    string        `json:"text"`
	}{c.Op.String(), c.Key.String(), c.Key.Kind, c.Key.Name, encode(c.Have), encode(c.Want), c.Because, c.Drift, c.Text()})
}

// MarshalJSON writes a state as a list of resources in the order of their keys.
func (s State) MarshalJSON() ([]byte, error) {
	out := make([]*resourceJSON, 0, len(s))
	for _, k := range s.Keys() {
		out = append(out, encode(s[k]))
	}
	return json.Marshal(out)
}

// MarshalText writes a key as "kind name".
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (k *Key) UnmarshalText(b []byte) error {
	kind, name, ok := strings.Cut(string(b), " ")
	if !ok {
		return fmt.Errorf("key %q: want \"kind name\"", b)
	}
	k.Kind, k.Name = kind, name
	return nil
}
