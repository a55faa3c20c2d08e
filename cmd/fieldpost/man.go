//go:build man

package main

import (
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Built with the tag man, fieldpost writes its manual pages: `man DIR`. The
// pages have the commit's date (SOURCE_DATE_EPOCH), so that builds are
// reproducible.
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
				return doc.GenManTree(root, &doc.GenManHeader{Title: "FIELDPOST", Section: "1", Date: &when, Source: "fieldpost", Manual: "fieldpost"}, args[0])
			},
		}
	})
}
