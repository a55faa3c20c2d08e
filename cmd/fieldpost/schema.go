package main

import (
	"fmt"

	"fieldpost/daemon/config"

	"github.com/spf13/cobra"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "print the JSON Schema of the configuration, for editors",
		Long: `Print the JSON Schema (draft 7) of fieldpost.yaml. An editor with a YAML language server
completes keys with it, shows what they mean, and marks mistakes. The package installs it as
/usr/share/fieldpost/fieldpost.schema.json. To use it, begin the file with the line

  # yaml-language-server: $schema=/usr/share/fieldpost/fieldpost.schema.json

"fieldpost check" finds more than the schema can.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := c.OutOrStdout().Write(config.Schema); err != nil {
				return fmt.Errorf("print schema: %w", err)
			}
			return nil
		},
	}
}
