package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"fieldpost/daemon/config"
	"fieldpost/daemon/page"

	"github.com/spf13/cobra"
)

func newPage(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "page",
		Short: "print the URL of the board's web page, with its token",
		Long: `Print the URL of the web page that the daemon serves on local.listen, with the token of
local.token_file behind the #. A browser that opens it may give orders for 30 days.
Who may not read the token file gets the URL without it, which shows the board only.

From another computer, make a tunnel and open the URL there:
  ssh -L 8080:127.0.0.1:8080 pi@raspberrypi.local`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadWithoutFiles(*file)
			if err != nil {
				return err
			}
			if cfg.Local.Listen == "" {
				return fmt.Errorf("%w: %s has no local.listen, so the daemon serves no page; write\nlocal:\n  listen: 127.0.0.1:8080\n  token_file: page.token   # `head -c 18 /dev/urandom | base64 >page.token`", config.ErrUnusable, cfg.File)
			}
			link, err := pageURL(cfg)
			if errors.Is(err, os.ErrPermission) {
				fmt.Fprintf(c.ErrOrStderr(), "you may not read the token in %s; with sudo the URL has it\n", cfg.Local.TokenFile)
				link, err = "http://"+cfg.Local.Listen+"/", nil
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), link)
			return nil
		},
	}
}

// pageURL returns the URL of the page, with the token if there is one.
func pageURL(cfg *config.Config) (string, error) {
	link := "http://" + cfg.Local.Listen + "/"
	if cfg.Local.TokenFile == "" {
		return link, nil
	}
	token, err := os.ReadFile(cfg.Local.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read the page's token: %w; make one with `head -c 18 /dev/urandom | base64 >%s`", err, cfg.Local.TokenFile)
	}
	text := strings.TrimSpace(string(token))
	if len(text) < page.TokenMin {
		return "", fmt.Errorf("the token in %s is shorter than %d characters; make one with `head -c 18 /dev/urandom | base64 >%[1]s`", cfg.Local.TokenFile, page.TokenMin)
	}
	return link + "#token=" + url.PathEscape(text), nil
}
