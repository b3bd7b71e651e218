package speaker

import "testing"

// TestMD5FailuresIn adds up what the kernel counts of signatures, by name: the columns differ from kernel to kernel.
func TestMD5FailuresIn(t *testing.T) {
	const netstat = `TcpExt: SyncookiesSent TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPSackShifted
TcpExt: 7 1 2 4 9
IpExt: InNoRoutes TCPMD5Failure
IpExt: 100 200
`
	for text, want := range map[string]uint64{netstat: 7, "": 0, "TcpExt: TCPMD5Failure": 0, "TcpExt: TCPMD5Failure\nTcpExt:\n": 0, "TcpExt: TCPMD5Failure\nTcpExt: x\n": 0} {
		if got := md5FailuresIn(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
