package speaker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Secrets stand between the fingerprints that resources hold and the passwords themselves, which are in no resource, plan
// or log. The zero value knows none: then neighbours with passwords can be seen, and not added.
type Secrets struct {
	Key    []byte                                            // random, kept by the host: a fingerprint is worth nothing elsewhere
	Secret func(fingerprint string) (secret string, ok bool) // of the passwords that the file names
}

// fingerprintDigits are few: a fingerprint says that a password changed, it does not authenticate.
const fingerprintDigits = 8

// Fingerprint is how a password shows in a resource: the head of its HMAC-SHA256. No password has no fingerprint.
func (s Secrets) Fingerprint(secret string) string {
	if secret == "" {
		return ""
	}
	mac := hmac.New(sha256.New, s.Key)
	mac.Write([]byte(secret))
	return hex.EncodeToString(mac.Sum(nil))[:fingerprintDigits]
}

func (s Secrets) secret(fingerprint string) (string, error) {
	if fingerprint == "" {
		return "", nil
	}
	if s.Secret != nil {
		if secret, ok := s.Secret(fingerprint); ok {
			return secret, nil
		}
	}
	return "", errors.New("its password is not known: the password_file could not be read")
}

// maxPassword is TCP_MD5SIG_MAXKEYLEN (include/uapi/linux/tcp.h).
const maxPassword = 80

// ReadPassword reads a password_file. A file that others than root may read or write is refused. One newline at the end is
// not part of the password.
func ReadPassword(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hang the daemon
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.Mode().IsRegular():
		return "", fmt.Errorf("reading the password: %s is not a regular file", path)
	case ok && sys.Uid != 0:
		return "", fmt.Errorf("reading the password: %s must belong to root", path)
	case st.Mode().Perm()&^0o600 != 0:
		return "", fmt.Errorf("reading the password: %s has mode %04o; it must be 0600 or 0400", path, st.Mode().Perm())
	}
	b := make([]byte, maxPassword+3)
	n, err := f.Read(b)
	if err != nil && n == 0 && st.Size() > 0 {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	secret := strings.TrimSuffix(string(b[:n]), "\n")
	if len(secret) == 0 || len(secret) > maxPassword || strings.ContainsRune(secret, 0) {
		return "", fmt.Errorf("reading the password: %s must hold 1 to %d bytes on one line", path, maxPassword)
	}
	return secret, nil
}
