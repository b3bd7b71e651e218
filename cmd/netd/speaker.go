package main

import (
	"context"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/object"
	"netd/reconcile/speaker"
)

func (a *app) speakerCmd() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "speaker",
		Short: "The BGP speaker process, which netd run starts",
		Long: `The BGP speaker: a process of its own, driven by netd run over sockets in its folder. It ends without a word to its
neighbours, which keep the routes of a speaker that restarts (RFC 4724).`,
		Example: "  netd speaker --dir /run/netd/speaker",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := a.logger()
			if err != nil {
				return err
			}
			return speaker.Serve(cmd.Context(), speaker.ServeOptions{Dir: dir, Version: version, LogFile: a.talk, Log: func(level, msg string, fields map[string]any) {
				var zf []zap.Field
				for k, v := range fields {
					zf = append(zf, zap.Any(k, v))
				}
				l, _ := zapcore.ParseLevel(level)
				log.Log(l, msg, zf...)
			}})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the folder of its sockets; without it, descriptor 3 is open on it")
	return cmd
}

// bgp starts and stops the speaker as the configuration needs it, and makes it part of the engine once it answers.
func (d *daemonState) bgp(ctx context.Context) {
	switch uses := usesBGP(d.config); {
	case uses && d.sup == nil:
		log := func(level, msg string, fields map[string]any) {
			zf := []zap.Field{zap.String("who", "speaker")}
			for k, v := range fields {
				zf = append(zf, zap.Any(k, v))
			}
			l, _ := zapcore.ParseLevel(level)
			d.log.Log(l, msg, zf...)
		}
		o := speaker.StartOptions{RunDir: d.a.runDir, Version: version, Log: log, Args: []string{"speaker"}}
		d.sup = &speaker.Supervisor{Options: o, External: d.extern}
		d.client = speaker.Open(o.Dir(), d.host.speakerSecrets())
		sctx, cancel := context.WithCancel(ctx)
		d.stopBGP = cancel
		sup, client := d.sup, d.client
		d.bgpDone.Add(3)
		go func() { defer d.bgpDone.Done(); _ = sup.Run(sctx) }()
		go func() { defer d.bgpDone.Done(); _ = client.Watch(sctx) }()
		go func() {
			defer d.bgpDone.Done()
			for {
				select {
				case <-sctx.Done():
					return
				case <-client.Pokes():
					anew := client.Anew()
					d.pokes.Add(reconcile.Poke{Whole: anew, Amend: !anew})
				}
			}
		}()
	case !uses && d.sup != nil:
		d.stopBGP()
		if !d.extern {
			note, err := d.client.Stop(ctx)
			if err != nil {
				d.log.Warn("stopping the speaker", zap.Error(err))
			}
			if note != "" {
				d.log.Warn(note)
			}
		}
		d.client.Close()
		d.sup, d.client = nil, nil
	}
	heard := false
	if d.client != nil {
		d.client.Caught()
		d.client.Allow(desired.MostPrefixes(d.config))
		_, heard = d.client.Neighbours()
	}
	if heard {
		client := d.client
		d.host.attachSpeaker(client, func(context.Context) object.Speaker { return client.Snapshot() })
	} else {
		d.host.speaker = nil
		d.host.engine.Kinds = d.host.kernel.Kinds()
	}
}

// amendMost is how many prefixes one pass of changed paths takes: few enough that another neighbour's, which come meanwhile, do
// not wait long.
const amendMost = 4096

// amend is the loop's question how what is wanted changed with the paths of some prefixes. It runs on the loop's goroutine.
func (d *daemonState) amend(was reconcile.State) (a reconcile.Amendment, ok bool) {
	if d.client == nil || d.learning == nil {
		return a, false
	}
	prefixes, paths, more, ok := d.client.Changes(amendMost)
	if !ok {
		return a, false
	}
	if a, ok = d.learning.Amend(was, prefixes, paths); ok {
		a.More = more
	}
	return a, ok
}
