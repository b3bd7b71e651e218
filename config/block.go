package config

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// block decodes one block: each method reads one attribute, and what is wrong with it is reported, not returned.
type block struct {
	p     *parser
	doc   BlockDoc
	title string // `node "web-1"`, for messages
	rng   hcl.Range
	attrs hcl.Attributes
	subs  hcl.Blocks
	vague []string // attributes whose values follow from a fault elsewhere
	meant []string // attributes that are there under a wrong name, which is reported
}

// open reads a block's body against the attributes that the schema knows.
func (p *parser) open(b *hcl.Block) *block {
	doc := docOf(b.Type)
	schema := &hcl.BodySchema{}
	for _, a := range doc.Attributes {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: a.Name})
	}
	for _, sub := range doc.Blocks {
		schema.Blocks = append(schema.Blocks, hcl.BlockHeaderSchema{Type: sub.Type})
	}
	content, diags := b.Body.Content(schema)
	title := b.Type
	for _, l := range b.Labels {
		title += fmt.Sprintf(" %q", l)
	}
	var meant []string
	for _, d := range diags {
		if m := didMean.FindStringSubmatch(d.Detail); m != nil {
			meant = append(meant, m[1])
		}
		if d.Summary, d.Detail = reword(d); d.Summary == unknownAttribute || d.Summary == unknownBlock {
			d.Summary = title + ": " + d.Summary
			d.Detail += elsewhere(doc, d.Detail)
		}
	}
	p.report.hcl(diags)
	p.expanded(len(content.Blocks), b.DefRange)
	out := &block{p: p, doc: doc, title: title, rng: b.DefRange, attrs: content.Attributes, subs: content.Blocks, meant: meant}
	for _, a := range doc.Attributes {
		if _, ok := content.Attributes[a.Name]; !ok {
			out.missing(a.Name)
		}
	}
	return out
}

// missing reports an attribute that is not given, if it is required.
func (b *block) missing(name string) {
	if slices.Contains(b.meant, name) {
		return
	}
	for _, a := range b.doc.Attributes {
		if a.Name == name && a.Required {
			b.p.report.errorf(b.at(name), b.title+": "+name+" is missing", "Every %s needs %s, %s.", b.doc.Type, name, article(a.Type))
		}
	}
}

func (b *block) pos() Pos { return posOf(b.rng) }

func posOf(r hcl.Range) Pos { return Pos{r.Filename, r.Start.Line, r.Start.Column} }

// at is the range of an attribute's value, or the block's head where it is not written.
func (b *block) at(name string) hcl.Range {
	if a, ok := b.attrs[name]; ok {
		return a.Expr.Range()
	}
	return b.rng
}

func (b *block) has(name string) bool { _, ok := b.attrs[name]; return ok }

func (b *block) fail(name, format string, args ...any) {
	b.p.report.errorf(b.at(name), b.title+": wrong "+name, format, args...)
}

// value evaluates an attribute and converts it. ok is false where it is not written, null, or wrong.
func (b *block) value(name string, t cty.Type) (v cty.Value, ok bool) {
	a, there := b.attrs[name]
	if !there {
		return v, false
	}
	v, diags := a.Expr.Value(b.p.ctx)
	b.p.report.hcl(diags)
	if diags.HasErrors() {
		return v, false
	}
	if v.IsNull() { // which is how an expression leaves an attribute out
		b.missing(name)
		delete(b.attrs, name)
		return v, false
	}
	if tooLong(v) {
		b.fail(name, "A string has more than %d bytes.", maxString)
		return v, false
	}
	if !v.IsWhollyKnown() {
		b.p.unsure, b.vague = true, append(b.vague, name)
		return v, false
	}
	var c cty.Value
	var err error
	if t.IsListType() {
		c, err = listOf(v, t.ElementType())
	} else {
		c, err = convert.Convert(v, t)
	}
	if err != nil {
		b.fail(name, "%s is wanted here, not %s.", friendly(t), shown(v))
		return v, false
	}
	return c, true
}

// article puts "a" or "an" before what a type is called.
func article(thing string) string {
	switch {
	case strings.HasPrefix(thing, `"`):
		return thing
	case strings.IndexByte("aeiouAEIOU", thing[0]) >= 0:
		return "an " + thing
	}
	return "a " + thing
}

// shown is a value in a message: itself where it is short, else what it is.
func shown(v cty.Value) string {
	if v.IsKnown() && !v.IsNull() && v.Type() == cty.String && len(v.AsString()) <= 60 {
		return strconv.Quote(v.AsString())
	}
	return article(v.Type().FriendlyName())
}

func friendly(t cty.Type) string {
	switch {
	case t == cty.String:
		return "A string"
	case t == cty.Number:
		return "A number"
	case t == cty.Bool:
		return "true or false"
	case t.IsListType():
		return "A list of strings"
	}
	return "A map of strings"
}

func (b *block) str(name, def string) string {
	if v, ok := b.value(name, cty.String); ok {
		return v.AsString()
	}
	return def
}

// passwordFile reads where a password is. An empty path, which an empty variable gives, is no way to have none.
func (b *block) passwordFile() string {
	v, ok := b.value("password_file", cty.String)
	if !ok {
		return ""
	}
	if v.AsString() == "" {
		b.fail("password_file", "The path of a file is wanted, not \"\". Take the line out where sessions have no password.")
	}
	return v.AsString()
}

func (b *block) boolean(name string, def bool) bool {
	if v, ok := b.value(name, cty.Bool); ok {
		return v.True()
	}
	return def
}

func (b *block) integer(name string, def, low, high int64) int64 {
	v, ok := b.value(name, cty.Number)
	if !ok {
		return def
	}
	n, accuracy := v.AsBigFloat().Int64()
	if accuracy != big.Exact || n < low || n > high {
		b.fail(name, "%s is wanted between %d and %d.", "A whole number", low, high)
		return def
	}
	return n
}

func (b *block) list(name string) []string {
	v, ok := b.value(name, cty.List(cty.String))
	if !ok {
		return nil
	}
	out := []string{} // an empty list is not none
	for _, e := range v.AsValueSlice() {
		if e.IsNull() {
			b.fail(name, "The list has a null in it.")
			continue
		}
		out = append(out, e.AsString())
	}
	return out
}

func (b *block) stringMap(name string) map[string]string {
	v, ok := b.value(name, cty.Map(cty.String))
	if !ok {
		return nil
	}
	out := map[string]string{}
	for k, e := range v.AsValueMap() {
		if !e.IsNull() {
			out[k] = e.AsString()
		}
	}
	return out
}

func (b *block) oneOf(name, def string, words ...string) string {
	v, ok := b.value(name, cty.String)
	if !ok {
		return def // not written, or reported already
	}
	s := v.AsString()
	if !slices.Contains(words, s) {
		b.fail(name, "%q is unknown; one of %s is wanted.", s, strings.Join(quoteAll(words), ", "))
		return def
	}
	return s
}

func quoteAll(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strconv.Quote(w)
	}
	return out
}

func (b *block) duration(name string, def time.Duration) time.Duration {
	v, ok := b.value(name, cty.String)
	if !ok {
		return def
	}
	d, err := time.ParseDuration(v.AsString())
	if err != nil || d < 0 {
		b.fail(name, "%q is no duration such as \"9s\" or \"2m\".", v.AsString())
		return def
	}
	return d
}

func (b *block) holdTime(def time.Duration) time.Duration {
	d := b.duration("hold_time", def)
	if d < 3*time.Second || d > 65535*time.Second || d%time.Second != 0 { // without one nobody would notice a dead host
		b.fail("hold_time", "Whole seconds are wanted, at least 3 (RFC 4271) and at most 65535.")
		return def
	}
	return d
}

// asn reads the number of an autonomous system. A wrong one counts as not given: nodes take that of the bgp block, and the fault is that one's.
func (b *block) asn(name string, def uint32) uint32 {
	n := b.integer(name, int64(def), 1, 1<<32-1)
	switch n {
	case 23456:
		b.fail(name, "23456 is AS_TRANS (RFC 6793) and nobody's number.")
		return def
	case 65535, 1<<32 - 1:
		b.fail(name, "%d is reserved (RFC 7300). Private numbers are 64512 to 65534 and 4200000000 to 4294967294 (RFC 6996).", n)
		return def
	}
	return uint32(n)
}

func (b *block) addr(name string) netip.Addr {
	v, ok := b.value(name, cty.String)
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(v.AsString())
	if err != nil || a.Is4In6() {
		b.fail(name, "%q is no IP address.", v.AsString())
		return netip.Addr{}
	}
	return a
}

// id reads a number of 32 bits that is written as an IPv4 address, as BGP's identifiers are. 0.0.0.0 is none (RFC 6286).
func (b *block) id(name, what string) netip.Addr {
	a := b.addr(name)
	if a.IsValid() && (!a.Is4() || a.IsUnspecified()) {
		b.fail(name, "%s is written as an IPv4 address other than 0.0.0.0.", what)
	}
	return a
}

// addresses reads one address, or a list with one of each family.
func (b *block) addresses(name string) []netip.Addr {
	a, there := b.attrs[name]
	if !there {
		return nil
	}
	var texts []string
	v, diags := a.Expr.Value(b.p.ctx)
	if diags.HasErrors() {
		b.p.report.hcl(diags)
		return nil
	}
	if !v.IsNull() && v.Type() == cty.String && v.IsKnown() {
		texts = []string{v.AsString()}
	} else {
		texts = b.list(name)
	}
	var out []netip.Addr
	for _, s := range texts {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" || addr.Is4In6() {
			b.fail(name, "%q is no IP address.", s)
			continue
		}
		out = append(out, addr)
	}
	if slices.Contains(b.vague, name) {
		return nil
	}
	if len(texts) > 2 || len(out) == 2 && out[0].Is4() == out[1].Is4() || len(texts) == 0 {
		b.fail(name, "One address, or a list with one IPv4 and one IPv6, is wanted.")
	}
	if len(out) == 2 && out[0].Is6() { // IPv4 first, whatever the file's order
		out[0], out[1] = out[1], out[0]
	}
	return out
}

// prefixes reads a list of CIDRs. An address with bits behind its length set is an error that names the prefix meant.
func (b *block) prefixes(name string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range b.list(name) {
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			hint := ""
			if _, err := netip.ParseAddr(s); err == nil {
				hint = fmt.Sprintf(" A single address is %q.", s+map[bool]string{true: "/32", false: "/128"}[!strings.Contains(s, ":")])
			}
			b.fail(name, "%q is no CIDR such as \"10.10.0.0/16\".%s", s, hint)
		case p.Masked() != p:
			b.fail(name, "%q has bits set behind its length; is %q meant?", s, p.Masked())
		default:
			out = append(out, p)
		}
	}
	return out
}

// underlay reads a node's address: an address with the length of its subnet.
func (b *block) underlay(name string, v6 bool) netip.Prefix {
	v, ok := b.value(name, cty.String)
	if !ok {
		return netip.Prefix{}
	}
	s := v.AsString()
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		b.fail(name, "%q is no address with a prefix length, such as \"192.168.170.137/24\": the same as on the host's interface.", s)
		return netip.Prefix{}
	case p.Addr().Is6() != v6 || p.Addr().Is4In6():
		family := map[bool]string{false: "IPv4", true: "IPv6"}[v6]
		b.fail(name, "%q is no %s address.", s, family)
		return netip.Prefix{}
	case p.Addr().IsUnspecified() || p.Addr().IsMulticast() || p.Addr().IsLoopback():
		b.fail(name, "%q is not an address of a host.", s)
		return netip.Prefix{}
	case !v6 && p.Bits() < 31 && (p.Addr() == p.Masked().Addr() || p.Addr() == last(p)):
		b.fail(name, "%q is the first or last address of its subnet, which no host has. Is it the host's own address?", s)
		return netip.Prefix{}
	}
	return p
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,62})$`)

func (b *block) name(label string) string {
	if !nameForm.MatchString(label) {
		b.p.report.errorf(b.rng, b.title+": wrong name", "A name has 1 to 63 ASCII letters, digits, dots, dashes and underscores, and begins with a letter or digit.")
	}
	return label
}

// last is the last address of an IPv4 subnet.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(b[:])|(1<<(32-p.Bits())-1))))
}

var linkForm = regexp.MustCompile(`^[^\s/:"]{1,15}$`)
