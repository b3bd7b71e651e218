// Package bench measures netd beside the field's own tools and beside the kernel's price for the same objects, in one run,
// and prints the ratios: on a machine that others use too, a time alone proves nothing.
//
//	make bench                 all of it, some ten minutes
//	make bench BENCH=Routes    one part
//
// Each part is a Go benchmark that makes its own network namespaces, runs the work of both sides several times in turn and
// adds lines to the table, which is printed at the end with the bar that a line has to clear. docs/figures.md says what is
// measured and how. Read table_test.go for the table, child_test.go for how a side gets a process and a namespace of its own.
package bench
