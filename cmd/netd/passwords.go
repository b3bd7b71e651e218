package main

import (
	"errors"
	"fmt"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/speaker"
)

// keys for the speaker's passwords.
func (h *host) speakerSecrets() speaker.Secrets {
	return speaker.Secrets{Key: h.db.Key(), Secret: func(f string) (string, bool) { s, ok := h.secrets[f]; return s, ok }}
}

// readPasswords reads the password files of this node's sessions, and says which cannot be.
func (h *host) readPasswords(c *config.Config, node config.Node) (read map[string]string, unread []string) {
	read = map[string]string{}
	for _, file := range desired.PasswordFiles(c, node.Name) {
		secret, err := speaker.ReadPassword(file)
		if err != nil {
			unread = append(unread, err.Error()+"; sessions that have one keep it")
			continue
		}
		f := h.speakerSecrets().Fingerprint(secret)
		h.secrets[f], read[file] = secret, f
	}
	return read, unread
}

// checkPasswords finds the password files of a node's sessions (of all nodes', where none is named) that are missing or that
// others than root can get at.
func checkPasswords(c *config.Config, node string) []error {
	var out []error
	for _, file := range desired.PasswordFiles(c, node) {
		if _, err := speaker.ReadPassword(file); err != nil {
			out = append(out, err)
		}
	}
	return out
}

// refusePasswords is the error of an apply whose sessions would lack their password.
func refusePasswords(c *config.Config, node config.Node) error {
	if err := errors.Join(checkPasswords(c, node.Name)...); err != nil {
		return &exit{exitConfig, fmt.Errorf("password_file: %w", err)}
	}
	return nil
}
