// Package datadir owns the folder in which yufu dev keeps its database, its master key and
// an admin key.
//
// Only the owner can read the folder. Only [Dir.Replace] replaces a file that exists, and
// then as a whole. If two processes create a file at once, both get the same content. A crash
// may leave a temporary file beside it. The package does not own the content of the files.
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

// Open makes the folder if it is missing, readable only by its owner. Errors contain name,
// the name of the setting.
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

// ReadOrCreate returns the content of a file. If the file is missing, it makes one with the
// content that create returns. Two processes that start at once get the same content: the
// file appears as a whole, and only once.
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
	defer os.Remove(tmp.Name()) //nolint:errcheck // the file is renamed or no longer needed
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
	defer os.Remove(tmp.Name()) //nolint:errcheck // the file is renamed or no longer needed
	if _, err := tmp.Write(content); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), d.Path(name))
}
