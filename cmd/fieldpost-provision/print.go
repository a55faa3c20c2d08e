package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/config"
	"fieldpost/daemon/identity"
	"fieldpost/daemon/visible"
)

// plain matches what a shell takes as it is.
var plain = regexp.MustCompile(`^[a-zA-Z0-9_./:@%+=,-]+$`)

// quoted quotes a word for a POSIX shell.
func quoted(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// script writes shell commands.
type script struct {
	strings.Builder
	global []string // options of each aws command
}

// line writes one command.
func (s *script) line(words ...string) { s.WriteString(commandLine(words...) + "\n") }

func commandLine(words ...string) string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = quoted(w)
	}
	return strings.Join(all, " ")
}

// aws returns a command of the AWS CLI.
func (s *script) aws(words ...string) string {
	return commandLine(slices.Concat([]string{"aws"}, s.global, []string{"iot"}, words)...)
}

func (f *flags) newScript(region, what string) *script {
	s := &script{global: []string{"--region", region}}
	if f.profile != "" {
		s.global = append(s.global, "--profile", f.profile)
	}
	if f.endpointURL != "" {
		s.global = append(s.global, "--endpoint-url", f.endpointURL)
	}
	fmt.Fprintf(s, "#!/bin/sh\n# %s\nset -eu\n", what)
	return s
}

// printCommands prints what a run would do, as commands of OpenSSL and the AWS CLI.
func (f *flags) printCommands(out io.Writer, cfg *config.Config, region string) error {
	if f.account == "" {
		return usageProblem{errors.New("--print does not ask AWS for the account: give its twelve digits with --account; `aws sts get-caller-identity --query Account --output text` prints them")}
	}
	policies, err := policiesOf(cfg, f.options, region, f.account)
	if err != nil {
		return usageProblem{err}
	}
	files := filesOf(cfg)
	s := f.newScript(region, "Register "+cfg.Thing+" in AWS IoT Core, once: unlike fieldpost-provision,\n# these commands are not safe to repeat.")
	s.line("umask", "077")
	for _, dir := range slices.Compact([]string{filepath.Dir(files.Key), filepath.Dir(files.Certificate), filepath.Dir(cfg.Broker.CA)}) {
		s.line("mkdir", "-p", "--", dir)
	}
	fmt.Fprintf(s, "test ! -e %s || { echo %s >&2; exit 1; }\n", quoted(files.Certificate), quoted(files.Certificate+" exists"))

	s.WriteString("\n# The private key, which stays here, and the request for its certificate.\n")
	key := []string{"openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", files.Key}
	if f.keyType == identity.RSA2048 {
		key = []string{"openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", files.Key}
	}
	fmt.Fprintf(s, "test -e %s || %s\n", quoted(files.Key), commandLine(key...))
	subject := "/CN=" + cfg.Thing[:min(len(cfg.Thing), 64)]
	fmt.Fprintf(s, "test -e %s || %s\n", quoted(files.Request), commandLine("openssl", "req", "-new", "-key", files.Key, "-subj", subject, "-out", files.Request))

	s.WriteString("\n# The thing and its policy.\n")
	thing := []string{"create-thing", "--thing-name", cfg.Thing}
	if f.thingType != "" {
		thing = append(thing, "--thing-type-name", f.thingType)
	}
	if len(f.attributes) > 0 {
		var pairs []string
		for _, k := range slices.Sorted(maps.Keys(f.attributes)) {
			pairs = append(pairs, fmt.Sprintf("%q:%q", k, f.attributes[k]))
		}
		thing = append(thing, "--attribute-payload", `{"attributes":{`+strings.Join(pairs, ",")+`}}`)
	}
	s.WriteString(s.aws(thing...) + "\n")
	for _, p := range policies {
		s.WriteString(s.aws("create-policy", "--policy-name", p.name, "--policy-document", p.document) + "\n")
	}

	s.WriteString("\n# The certificate, and what belongs to it.\n")
	fmt.Fprintf(s, "arn=$(%s)\n", s.aws("create-certificate-from-csr", "--certificate-signing-request", "file://"+files.Request,
		"--set-as-active", "--certificate-pem-outfile", files.Certificate, "--query", "certificateArn", "--output", "text"))
	for _, p := range policies {
		fmt.Fprintf(s, "%s --target \"$arn\"\n", s.aws("attach-policy", "--policy-name", p.name))
	}
	fmt.Fprintf(s, "%s --principal \"$arn\"\n", s.aws("attach-thing-principal", "--thing-name", cfg.Thing))
	fmt.Fprintf(s, "test -e %s || cat >%[1]s <<'END'\n%sEND\n", quoted(cfg.Broker.CA), roots)

	fmt.Fprintf(s, "\n# Put this into broker.endpoint of %s.\n%s\n", visible.Text(cfg.File), s.aws("describe-endpoint", "--endpoint-type", "iot:Data-ATS", "--query", "endpointAddress", "--output", "text"))
	_, err = io.WriteString(out, s.String())
	return err
}

// printUndo prints what --undo --yes would do, as commands of the AWS CLI.
func (f *flags) printUndo(out io.Writer, cfg *config.Config, st *store) error {
	s := f.newScript(st.Region, "Take back what fieldpost-provision has made for "+visible.Text(st.Thing)+".")
	if m := st.certificate(); m != nil && !m.Sure {
		return errors.New("a certificate was asked for, and whether it was made is not known: run fieldpost-provision again first, or --undo --yes")
	}
	prefix, err := need.Prefix(cfg, st.Region, st.Account)
	if err != nil {
		return fmt.Errorf("%q: %w", st.path, err)
	}
	arn := func(m *made) string { return prefix + "cert/" + m.Certificate }
	for _, m := range st.undoOrder() {
		switch m.What {
		case madeThingAttach:
			s.WriteString(s.aws("detach-thing-principal", "--thing-name", m.Name, "--principal", arn(m)) + "\n")
		case madePolicyAttach:
			s.WriteString(s.aws("detach-policy", "--policy-name", m.Name, "--target", arn(m)) + "\n")
		case madeCertificate:
			s.WriteString(s.aws("update-certificate", "--certificate-id", m.Name, "--new-status", "INACTIVE") + "\n")
			s.WriteString(s.aws("delete-certificate", "--certificate-id", m.Name) + "\n")
		case madePolicy:
			f.printVersions(s, st, m.Name)
			s.WriteString(s.aws("delete-policy", "--policy-name", m.Name) + "\n")
		case madeThing:
			s.WriteString(s.aws("delete-thing", "--thing-name", m.Name) + "\n")
		case madeFile:
			s.line("rm", "-f", "--", pathOf(cfg, m.Name))
		case madeEndpoint:
			fmt.Fprintf(s, "# broker.endpoint in %s was %s\n", visible.Text(cfg.File), visible.Text(m.Was))
		}
	}
	s.line("rm", "-f", "--", st.path, st.path+".lock")
	_, err = io.WriteString(out, s.String())
	return err
}

// printVersions prints how all versions of a policy but the newest, the default, are deleted.
func (f *flags) printVersions(s *script, st *store, name string) {
	versions := []string{firstVersion}
	for _, m := range st.Made {
		if m.What == madePolicyVersion && m.Name == name && m.Sure {
			versions = append(versions, m.Version)
		}
	}
	for _, v := range versions[:len(versions)-1] {
		s.WriteString(s.aws("delete-policy-version", "--policy-name", name, "--policy-version-id", v) + " || true\n")
	}
}
