package kernel

// MarksAddresses reports whether this kernel says of an address who put it there.
func MarksAddresses() bool { return marked(release(), nil) }
