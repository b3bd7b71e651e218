// Package config turns the file that the user writes into a Config with nothing unset, or into diagnostics that name file,
// line and column and say what to do.
//
//	Read ──▶ Source ──scan──▶ parse ──▶ variables, locals ──▶ dynamic ──▶ decode ──▶ check ──▶ Config
//	bytes, variables          limits    functions.go          dynblock    decode.go  check.go
//
// A Source is everything that a configuration was made from: it can be kept and parsed again later with the same outcome.
// The parser is an attack surface: Go cannot recover from an overflowed stack, so scan.go bounds the nesting and the length
// of expressions before the first byte is lexed.
package config
