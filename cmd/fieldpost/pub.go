package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"fieldpost/daemon/client"
	"fieldpost/daemon/config"
	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/topic"
	"fieldpost/daemon/uplink"

	"github.com/spf13/cobra"
)

// accountFlags are the flags of a client that may have no configuration file.
type accountFlags struct {
	endpoint, ca, cert, key, clientID string
	access                            uplink.Access
}

func (f *accountFlags) add(c *cobra.Command, clientID string) {
	c.Flags().StringVar(&f.endpoint, "endpoint", "", "`host` or host:port of the broker (default: the configuration's)")
	c.Flags().StringVar(&f.ca, "ca", "certs/AmazonRootCA1.pem", "PEM `file` with the broker's root certificates")
	c.Flags().StringVar(&f.cert, "cert", "certs/certificate.pem.crt", "PEM `file` with the client's certificate")
	c.Flags().StringVar(&f.key, "key", "certs/private.pem.key", "PEM `file` with the client's private key")
	c.Flags().StringVar(&f.access.Username, "username", "", "MQTT user `name`, for brokers that want one")
	c.Flags().StringVar(&f.access.PasswordFile, "password-file", "", "`file` with the password of the user name")
	c.Flags().StringVar(&f.access.Proxy, "proxy", "", "HTTP proxy, `http://host:port`, or none (default: that of HTTPS_PROXY)")
	c.Flags().StringVar(&f.clientID, "client-id", clientID, "MQTT client `id`")
}

// account returns the broker and credentials that the flags describe. Without
// --endpoint they are those of the configuration, except for files that flags
// name.
func (f *accountFlags) account(c *cobra.Command, file string) (client.Account, error) {
	a := client.Account{Endpoint: f.endpoint, CA: f.ca, Certificate: f.cert, Key: f.key, ClientID: f.clientID, Access: f.access}
	if a.Certificate == "none" {
		a.Certificate, a.Key = "", ""
	}
	if a.Endpoint != "" {
		at, err := endpoint.Parse(a.Endpoint)
		if err != nil {
			return a, usage(c, fmt.Errorf("--endpoint %q: %w", a.Endpoint, err))
		}
		a.Endpoint = at.String()
		return a, nil
	}
	cfg, err := load(file)
	if err != nil {
		if file == "" && errors.Is(err, config.ErrUnusable) {
			return a, usage(c, errors.New("no broker: use --endpoint HOST, or name a configuration with -c"))
		}
		return a, err
	}
	a.Endpoint = cfg.Endpoint()
	own := client.AccessOf(cfg)
	a.ALPN = own.ALPN
	for flag, of := range map[string]struct{ to, from *string }{
		"username": {&a.Username, &own.Username}, "password-file": {&a.PasswordFile, &own.PasswordFile}, "proxy": {&a.Proxy, &own.Proxy},
		"ca": {&a.CA, &cfg.Broker.CA}, "cert": {&a.Certificate, &cfg.Broker.Certificate}, "key": {&a.Key, &cfg.Broker.Key},
	} {
		if !c.Flags().Changed(flag) {
			*of.to = *of.from
		}
	}
	return a, nil
}

// publishing is what pub publishes, as the flags say it.
type publishing struct {
	o          client.PublishOptions
	file       string
	raw, lines bool
	qos        int
}

func newPub(file *string) *cobra.Command {
	var f accountFlags
	var p publishing
	c := &cobra.Command{
		Use:   "pub",
		Short: "publish messages like the AWS IoT tutorial's publisher",
		Long: `Publish messages to a topic and wait until each is acknowledged. The defaults are those
of the AWS IoT tutorial's publisher: five JSON messages at QoS 1, half a second apart.

--raw publishes --message as it is, --file the contents of a file (- is stdin), and
--lines each line of that file as a message of its own.

The exit status is 0 only if the broker took every message. Where it refuses one, the
command prints the broker's reason, if it gives one over MQTT 5, and the statement that
an AWS IoT policy would need. At QoS 0 nothing is acknowledged; then the status is 0 if
the broker kept the connection after each message.`,
		Example: `  fieldpost pub --endpoint a1b2c3d4e5-ats.iot.ap-south-1.amazonaws.com
  fieldpost pub --topic test/topic/commands --raw --count 1 --message '{"output":"pump","action":"off"}'
  fieldpost pub --topic site/config --retain --file config.json
  journalctl -f -o json | fieldpost pub --topic test/topic --file - --lines --every 1s`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.prepare(c); err != nil {
				return usage(c, err)
			}
			a, err := f.account(c, *file)
			if err != nil {
				return err
			}
			if p.o.Payload, err = p.payload(c.InOrStdin()); err != nil {
				return err
			}
			p.o.Account, p.o.Out, p.o.Log = a, c.OutOrStdout(), quietLog(c)
			return client.Publish(c.Context(), p.o)
		},
	}
	f.add(c, "test-pub")
	c.Flags().StringVar(&p.o.Topic, "topic", "test/topic", "`topic` to publish to")
	c.Flags().StringVar(&p.o.Message, "message", "Hello from fieldpost", "`text` of each message")
	c.Flags().BoolVar(&p.raw, "raw", false, "publish --message as it is, not as JSON with a number")
	c.Flags().StringVar(&p.file, "file", "", "publish the contents of this `file`; - is stdin")
	c.Flags().BoolVar(&p.lines, "lines", false, "publish each line of --file")
	c.Flags().IntVar(&p.o.Count, "count", 5, "number of messages; 0 is until Ctrl-C (default 1 with --file, all with --lines)")
	c.Flags().DurationVar(&p.o.Every, "every", 500*time.Millisecond, "time between messages")
	c.Flags().IntVar(&p.qos, "qos", 1, "quality of service: 0 or 1")
	c.Flags().BoolVar(&p.o.Retain, "retain", false, "have the broker keep the last message for later subscribers; one that is empty ends that")
	return c
}

// prepare checks the flags and sets the defaults that depend on others.
func (p *publishing) prepare(c *cobra.Command) error {
	switch {
	case p.o.Every < 0 || p.o.Count < 0 || p.o.Every == 0 && !p.lines:
		return errors.New("--every must be more than 0 and --count 0 or more")
	case p.qos != 0 && p.qos != 1:
		return fmt.Errorf("--qos %d: want 0 or 1", p.qos)
	case p.lines && p.file == "":
		return errors.New("--lines needs a --file")
	case p.file != "" && (p.raw || c.Flags().Changed("message")):
		return errors.New("--file takes the place of --message and --raw")
	}
	if err := topic.Check(p.o.Topic); err != nil {
		return fmt.Errorf("--topic %q %w", p.o.Topic, err)
	}
	p.o.QoS = byte(p.qos)
	if !c.Flags().Changed("count") {
		switch {
		case p.lines:
			p.o.Count = 0
		case p.file != "":
			p.o.Count = 1
		}
	}
	return nil
}

// largestPayload is the largest that is read of a file, in bytes; brokers take less.
const largestPayload = 4 << 20

// payload returns what gives the payloads; nil is the tutorial's.
func (p *publishing) payload(stdin io.Reader) (func(ctx context.Context, n int) ([]byte, error), error) {
	same := func(payload []byte) func(context.Context, int) ([]byte, error) {
		return func(context.Context, int) ([]byte, error) { return payload, nil }
	}
	in := stdin
	switch {
	case p.file == "" && !p.raw:
		return nil, nil
	case p.file == "":
		return same([]byte(p.o.Message)), nil
	case p.file != "-":
		f, err := os.Open(p.file)
		if err != nil {
			return nil, fmt.Errorf("read payload: %w", err)
		}
		if p.lines {
			return lineReader(f), nil // open until the process ends
		}
		defer f.Close()
		in = f
	case p.lines:
		return lineReader(stdin), nil
	}
	payload, err := io.ReadAll(io.LimitReader(in, largestPayload+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read payload: %w", err)
	case len(payload) > largestPayload:
		return nil, fmt.Errorf("read payload: %q has more than %d bytes", p.file, largestPayload)
	}
	return same(payload), nil
}

// lineReader gives each line of r as a payload. Nothing can interrupt a read from a terminal, so
// the goroutine that reads may outlive the command, and ends with the process.
func lineReader(r io.Reader) func(ctx context.Context, n int) ([]byte, error) {
	type line struct {
		text []byte
		err  error
	}
	next := make(chan line)
	begin := sync.OnceFunc(func() {
		go func() {
			s := bufio.NewScanner(r)
			s.Buffer(nil, largestPayload)
			for s.Scan() {
				next <- line{text: bytes.Clone(s.Bytes())}
			}
			err := s.Err()
			if err == nil {
				err = io.EOF
			}
			next <- line{err: err}
		}()
	})
	return func(ctx context.Context, n int) ([]byte, error) {
		begin()
		select {
		case l := <-next:
			if l.err != nil && l.err != io.EOF {
				return nil, fmt.Errorf("read line %d: %w", n, l.err)
			}
			return l.text, l.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
