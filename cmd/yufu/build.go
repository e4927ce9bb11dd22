package main

import "runtime/debug"

// version is set by the linker for releases: -X main.version=v1.2.3.
var version string

// buildVersion returns the release, else the commit, else "devel".
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return "devel-" + s.Value[:12]
			}
		}
		// go install …/cmd/yufu@v1.2.3 builds without the linker's flag and without git.
		if v := info.Main.Version; v != "" && v != "(devel)" {
			return v
		}
	}
	return "devel"
}
