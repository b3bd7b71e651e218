package desired

// sessions builds the BGP neighbours.
func sessions(*builder) {}
