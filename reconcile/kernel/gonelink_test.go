package kernel

import "testing"

// TestAddrsOfGoneLink: a link that went since it was looked at has no addresses, and that is no failure.
func TestAddrsOfGoneLink(t *testing.T) {
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if held, err := readAddrs(c, 1<<24); err != nil || len(held) > 0 {
		t.Errorf("%v, %v", held, err)
	}
}
