// Package probe finds out how packets get from here to other hosts: whether they do (ICMP echo, RFC 792 and 4443), how long
// that takes, and how large they may be on the way.
//
//	echoes    each target is sent Count echo requests, a moment apart, all targets beside each other
//	          one reader matches the answers of all by a token in their data
//	sizes     to one that answered, with DF and whatever the kernel believes the path to carry (IP_PMTUDISC_PROBE):
//	          the link's MTU first; where that is lost 15 sizes between what passed and what did not, again and again
//
// A router that drops what is too large without a word is found too: nothing but answers counts. It needs CAP_NET_RAW.
package probe
