package reconcile

import "testing"

// claiming is a resource that claims something besides its key.
type claiming struct{ name, what string }

func (c claiming) Key() Key            { return Key{"claiming", c.name} }
func (c claiming) Requires() []Key     { return nil }
func (c claiming) Fields() []Field     { return []Field{{"what", c.what}} }
func (c claiming) Claims() (Key, bool) { return Key{"claim", c.what}, true }

// TestKnownIsNoDrift: what was amended and is known without a look is nobody else's doing, where it goes to make room too.
func TestKnownIsNoDrift(t *testing.T) {
	gone, comes := claiming{"a", "x"}, claiming{"b", "x"}
	d := differ{before: State{comes.Key(): comes}, known: []*Amended{{Key: gone.Key(), Was: gone}, {Key: comes.Key(), Want: comes}}}
	plan := d.plan([]string{"claiming"})
	if len(plan.Changes) != 2 || plan.Changes[0].Op != Delete || plan.Changes[0].Phase != Teardown {
		t.Fatalf("%+v", plan.Changes)
	}
	for _, c := range plan.Changes {
		if c.Drift {
			t.Errorf("taken for drift: %+v", c)
		}
	}
}
