package speaker

import "fmt"

// notifications are the errors of NOTIFICATIONs by code and subcode, as the registry of BGP error codes calls them: RFC 4271 §6, RFC 4486 (what ceases),
// RFC 6608 (states), RFC 7313, RFC 8538, RFC 9234, RFC 9384, RFC 9687. gobgp knows no newer ones than RFC 4486's.
var notifications = map[[2]uint8]string{
	{1, 0}: "message header error", {1, 1}: "connection not synchronized", {1, 2}: "bad message length", {1, 3}: "bad message type",
	{2, 0}: "OPEN message error", {2, 1}: "unsupported version number", {2, 2}: "bad peer AS", {2, 3}: "bad BGP identifier", {2, 4}: "unsupported optional parameter",
	{2, 6}: "unacceptable hold time", {2, 7}: "unsupported capability", {2, 11}: "role mismatch",
	{3, 0}: "UPDATE message error", {3, 1}: "malformed attribute list", {3, 2}: "unrecognized well-known attribute", {3, 3}: "missing well-known attribute",
	{3, 4}: "attribute flags error", {3, 5}: "attribute length error", {3, 6}: "invalid ORIGIN attribute", {3, 8}: "invalid NEXT_HOP attribute",
	{3, 9}: "optional attribute error", {3, 10}: "invalid network field", {3, 11}: "malformed AS_PATH",
	{4, 0}: "hold timer expired",
	{5, 0}: "finite state machine error", {5, 1}: "unexpected message in OpenSent", {5, 2}: "unexpected message in OpenConfirm", {5, 3}: "unexpected message in Established",
	{6, 0}: "cease", {6, 1}: "maximum number of prefixes reached", {6, 2}: "administrative shutdown", {6, 3}: "peer de-configured", {6, 4}: "administrative reset",
	{6, 5}: "connection rejected", {6, 6}: "other configuration change", {6, 7}: "connection collision resolution", {6, 8}: "out of resources", {6, 9}: "hard reset", {6, 10}: "BFD down",
	{7, 0}: "ROUTE-REFRESH message error", {7, 1}: "invalid message length",
	{8, 0}: "send hold timer expired",
}

// notified is what a NOTIFICATION says: the error's name and its numbers. A subcode without a name goes by its code's.
func notified(code, subcode uint8) string {
	name := notifications[[2]uint8{code, subcode}]
	if name == "" {
		name = notifications[[2]uint8{code, 0}]
	}
	if name == "" {
		name = "unknown error"
	}
	return fmt.Sprintf("%s (%d/%d)", name, code, subcode)
}
