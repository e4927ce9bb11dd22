package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/httpd"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/janitor"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/replicas"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/telemetry"
)

// serve assembles the service and runs it until ctx is done. It returns nil if ctx ends while
// the service is being assembled.
func serve(ctx context.Context, p parts) error {
	s := &service{parts: p, metrics: telemetry.NewMetrics(buildVersion())}
	defer s.close()
	err := s.assemble(ctx)
	if err == nil {
		err = s.run(ctx)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// run serves until ctx is done and all requests are answered.
func (s *service) run(ctx context.Context) error {
	// The background tasks continue during the shutdown delay, because the service still
	// serves requests.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	following, stopFollowing := context.WithCancel(background)
	defer stopFollowing()
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer stop()
	tasks.Go(func() { s.follower.Run(following) })
	tasks.Go(func() { s.keeper.Run(background) })
	tasks.Go(func() { s.restorer.Run(background, session.RestorePause) })
	tasks.Go(func() { s.apps.Run(background) })
	tasks.Go(func() { s.member.Run(background, replicas.Pause) })
	// The janitor also asks the database for its time, and uses the earlier of the two.
	tasks.Go(func() { janitor.Run(background, s.store, s.log, time.Now, janitor.Pause) })

	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	defer signal.Stop(hangUp)
	tasks.Go(func() { rereadOnSignal(background, s.log, s.rereads, s.member.Wake, hangUp) })

	s.log.Info("starting", "version", buildVersion(), "issuer", s.issuer)
	stopSignals := make(chan os.Signal, 2)
	signal.Notify(stopSignals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(stopSignals)
	return httpd.Serve(ctx, s.log, httpd.Stop{
		Delay: s.delay, Skip: stopSignals, Grace: s.grace,
		Leaving: func() {
			s.checker.Drain()
			// The signal that ended ctx is also in this channel, unless it came before the
			// channel existed. Notify returns after a signal was sent to all channels.
			signal.Notify(stopSignals, os.Interrupt, syscall.SIGTERM)
			select {
			case <-stopSignals:
			default:
			}
		},
		Draining: func() {
			signal.Stop(stopSignals) // the next signal kills the process
			stopFollowing()          // also ends the streams of the feed
		},
	}, s.endpoints...)
}
