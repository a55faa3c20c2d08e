package systemd

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// KeepsLines is the first version of systemd that keeps the files which a unit has
// stored after the unit was stopped (FileDescriptorStorePreserve=, systemd.service(5)).
const KeepsLines = 254

// Version asks systemctl for the version of systemd on this machine, such as 257. It
// returns an error where there is no systemd. It takes 5 s at most.
func Version(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("systemctl --version: %w", err)
	}
	return parseVersion(string(out))
}

// parseVersion reads the first line of systemctl --version: "systemd 252 (252.39-1~deb12u1)".
func parseVersion(out string) (int, error) {
	line, _, _ := strings.Cut(out, "\n")
	if f := strings.Fields(line); len(f) >= 2 && f[0] == "systemd" {
		if v, err := strconv.Atoi(f[1]); err == nil && v > 0 {
			return v, nil
		}
	}
	return 0, fmt.Errorf("systemctl --version printed %q, want \"systemd NUMBER ...\"", line)
}
