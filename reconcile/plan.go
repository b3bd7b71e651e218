package reconcile

// Op is what a change does to one resource.
type Op uint8

const (
	Create Op = iota + 1
	Update
	Delete
)

func (o Op) String() string {
	switch o {
	case Create:
		return "create"
	case Update:
		return "update"
	case Delete:
		return "delete"
	}
	return "?"
}

// Symbol is the mark of the operation in a printed plan, the same that Terraform uses.
func (o Op) Symbol() string {
	switch o {
	case Create:
		return "+"
	case Update:
		return "~"
	case Delete:
		return "-"
	}
	return "?"
}

// Phase orders a plan. See the package documentation for why one phase is not enough.
type Phase uint8

const (
	Teardown Phase = iota + 1 // what is replaced or in the way, with all that stands on it, deepest first
	Build                     // what is wanted, footing first
	Leftover                  // what is not wanted any more, deepest first
)

// Change is one step of a plan. A replacement is a Delete in Teardown and a Create in Build.
type Change struct {
	Op      Op
	Phase   Phase
	Key     Key
	Have    Resource // nil for Create
	Want    Resource // nil for Delete
	Because Cause
	Drift   bool // the resource was as wanted before and something outside netd changed it
}

// Conflict is a wanted resource whose place a foreign object holds. Nothing on it is touched.
type Conflict struct {
	Holder
	Without []Key `json:"without,omitempty"` // what stands on it and is left out too
}

// Plan is what leads from the observed state to the wanted one. What is printed, saved, sent and executed is this value.
type Plan struct {
	Changes   []Change // in the order of execution
	Conflicts []Conflict

	stands map[Key][]Key  // Want.Stands, by which a failed change's dependents are found
	first  map[Key]placed // what has to be gone before something can be made (see Sole)
}

// Empty reports whether there is nothing to do and nothing in the way.
func (p Plan) Empty() bool { return len(p.Changes) == 0 && len(p.Conflicts) == 0 }
