package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"fieldpost/daemon/config"
	"fieldpost/daemon/rehearse"

	"github.com/spf13/cobra"
)

const rehearseHelp = `Run your configuration on a simulated board, with a broker on loopback, through faults: a
cut wire, a hanging bus, a chattering input, a day without the broker, a full disk, a
wrong clock, a storm of orders, a power cut, an expired certificate, a stop. Print for
each what happened, and whether a promise of fieldpost was held.

No hardware is opened, no pin moves, and nothing is sent beyond loopback. Everything is
in a temporary directory, which is removed. The files that the configuration names need
not exist. A full disk is a small file system in memory, which only Linux can mount for
this program alone; some systems let only root do so. What is done faster than in life
is said.

--scenario names a YAML file with the faults to try:

  faults:
    - fault: broker_gone
      for: 36h
    - fault: sensor_gone
      sensor: air

The exit status is 0 if no promise was broken, 1 if one was, 2 if the scenario is wrong,
78 if the configuration is.`

// childFlags are of the processes that a rehearsal starts: the one that is killed in a power cut,
// and the one that has mounts of its own.
type childFlags struct {
	dir, endpoint, certificates string
	ownMounts                   bool
}

func newRehearse(file *string) *cobra.Command {
	var scenario string
	var list, asJSON bool
	var child childFlags
	c := &cobra.Command{
		Use:     "rehearse",
		Short:   "try a configuration against faults, on a simulated board",
		Long:    rehearseHelp,
		Example: "  fieldpost rehearse -c fieldpost.yaml\n  fieldpost rehearse -c fieldpost.yaml --scenario winter.yaml --json\n  fieldpost rehearse --list",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if list {
				return listFaults(c)
			}
			path, err := find(*file)
			if err != nil {
				return err
			}
			cfg, err := config.LoadWithoutFiles(path)
			if err != nil {
				return err
			}
			if child.dir != "" {
				return rehearse.RunChild(c.Context(), cfg, child.dir, child.endpoint, child.certificates, c.OutOrStdout())
			}
			return rehearseAll(c, path, cfg, scenario, asJSON, child.ownMounts)
		},
	}
	c.Flags().StringVar(&scenario, "scenario", "", "YAML `file` with the faults to try (default: all)")
	c.Flags().BoolVar(&list, "list", false, "list the faults and their parameters")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	c.Flags().StringVar(&child.dir, "child-dir", "", "")
	c.Flags().StringVar(&child.endpoint, "child-endpoint", "", "")
	c.Flags().StringVar(&child.certificates, "child-certificates", "", "")
	c.Flags().BoolVar(&child.ownMounts, "own-mounts", false, "")
	for _, name := range []string{"child-dir", "child-endpoint", "child-certificates", "own-mounts"} {
		if err := c.Flags().MarkHidden(name); err != nil {
			panic(err) // it was defined above
		}
	}
	return c
}

func listFaults(c *cobra.Command) error {
	for _, k := range rehearse.Faults() {
		fmt.Fprintf(c.OutOrStdout(), "%-20s %s", k.Name, k.Title)
		for i, key := range k.Keys {
			fmt.Fprint(c.OutOrStdout(), map[bool]string{true: "; keys: ", false: ", "}[i == 0], key)
		}
		fmt.Fprintln(c.OutOrStdout())
	}
	return nil
}

func rehearseAll(c *cobra.Command, path string, cfg *config.Config, scenario string, asJSON, ownMounts bool) error {
	ignoreSIGPIPE() // a closed pipe must not keep us from cleaning up
	faults := rehearse.Everything()
	if scenario != "" {
		var err error
		if faults, err = rehearse.ReadScenario(scenario, cfg); err != nil {
			return usage(c, err)
		}
	}
	progress := c.ErrOrStderr()
	r, err := rehearse.Run(c.Context(), rehearse.RunOptions{
		Config: cfg, Scenario: faults, Version: version,
		Child: func(dir, endpoint, certificates string) *exec.Cmd {
			return exec.Command(self(), "rehearse", "-c", path, "--child-dir", dir, "--child-endpoint", endpoint, "--child-certificates", certificates)
		},
		Alone: func(ctx context.Context, scenario string) *exec.Cmd {
			return exec.CommandContext(ctx, self(), "rehearse", "-c", path, "--scenario", scenario, "--json", "--own-mounts")
		},
		OwnMounts: ownMounts,
		Progress: func(name string, n, of int, outcomes []rehearse.Outcome) {
			if outcomes == nil {
				fmt.Fprintf(progress, "%d/%d  %s ...\n", n, of, name)
			}
			for _, o := range outcomes {
				fmt.Fprintf(progress, "      %s: %s %s\n", o.Verdict, o.Happened, o.Why)
			}
		},
	})
	if err != nil {
		return err
	}
	if asJSON {
		err = r.PrintJSON(c.OutOrStdout())
	} else {
		err = r.Print(c.OutOrStdout())
	}
	if r.Interrupted {
		return errors.Join(err, errors.New("the rehearsal was interrupted"))
	}
	return errors.Join(err, r.Err())
}

// self returns the path of this program.
func self() string {
	if path, err := exec.LookPath(os.Args[0]); err == nil {
		return path
	}
	return os.Args[0]
}
