// Package datadir owns the folder in which yufu dev keeps what it makes: the
// database, the master key, an admin key.
//
// The folder is private to its user. A file that exists is replaced by
// [Dir.Replace] alone, and then whole.
package datadir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
)

// Dir is an existing data folder.
type Dir string

// Open makes the folder if it is missing, readable only by its owner. Name is that of the
// setting, for errors.
func Open(name, path string) (Dir, error) {
	if path == "" {
		return "", setting.Errorf(name, "must name a folder, got nothing")
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", setting.Errorf(name, "names a folder that cannot be made: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", setting.Errorf(name, "names a folder that cannot be used: %w", err)
	}
	if !info.IsDir() {
		return "", setting.Errorf(name, "must name a folder, got a file: %s", path)
	}
	return Dir(path), nil
}

// Path returns the path of a file in the folder.
func (d Dir) Path(name string) string { return filepath.Join(string(d), name) }

// ReadOrCreate returns the content of a file, and makes it with the content
// that create returns when it is not there. Two processes that start at once
// get the same content: the file appears whole or not at all, and only once.
func (d Dir) ReadOrCreate(name string, create func() []byte) ([]byte, error) {
	path := d.Path(name)
	b, err := os.ReadFile(path) //nolint:gosec // the folder is the operator's
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	tmp, err := os.CreateTemp(string(d), name+".*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // it is gone or it is garbage
	if _, err := tmp.Write(create()); err != nil {
		return nil, errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	// Link, unlike Rename, refuses to replace what another process just made.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path) //nolint:gosec // the folder is the operator's
}

// Replace writes a file that only its owner can read. A reader sees either the whole
// old content or the whole new content.
func (d Dir) Replace(name string, content []byte) error {
	tmp, err := os.CreateTemp(string(d), name+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // it is gone or it is garbage
	if _, err := tmp.Write(content); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), d.Path(name))
}
