package main

import (
	"log/slog"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/seal"
)

type jwksFlag = setting.JWKS

type appFlags = databaseCommand

// masterKeyFlag says where the master keys are.
type masterKeyFlag struct{ setting.MasterKey }

func (f masterKeyFlag) ring(std streams, log *slog.Logger) (*seal.Ring, error) {
	return f.Ring(std.in, warnTo(log))
}
