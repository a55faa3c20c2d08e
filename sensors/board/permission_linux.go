package board

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// groupHint says what lets this user open a device file: the group it belongs
// to, or the udev rule that gives it to the usual one.
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
