//go:build man

package main

import (
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Built with the tag man, fieldpost-provision writes its manual page: `man DIR`. It is of the
// commit's time (SOURCE_DATE_EPOCH), so that two builds are the same.
func init() {
	extra = append(extra, func() *cobra.Command {
		return &cobra.Command{
			Use: "man DIR", Hidden: true, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				when := time.Unix(0, 0).UTC()
				if s, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
					when = time.Unix(s, 0).UTC()
				}
				root := cmd.Root()
				root.DisableAutoGenTag = true
				return doc.GenManTree(root, &doc.GenManHeader{Title: "FIELDPOST-PROVISION", Section: "1", Date: &when, Source: "fieldpost", Manual: "fieldpost"}, args[0])
			},
		}
	})
}
