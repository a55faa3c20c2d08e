package board

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// groupHint says how to let this user open a device file: join its group, or install the
// udev rule that gives the file to the usual group.
func groupHint(path, usual string) string {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Sprintf("add this user to the group %s", usual)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || sys.Gid == 0 || st.Mode().Perm()&0o060 != 0o060 {
		return fmt.Sprintf("install fieldpost's udev rule, which gives the file to the group %s, and add this user to it", usual)
	}
	name := strconv.FormatUint(uint64(sys.Gid), 10)
	if g, err := user.LookupGroupId(name); err == nil {
		name = g.Name
	}
	return fmt.Sprintf("add this user to the group %s, which may open it, and log in again", name)
}
