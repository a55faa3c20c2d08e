# shellcheck shell=bash
# The private key comes as a credential of systemd, as deploy/README.md tells it, for run.sh.

# with_credential SETTING: the unit gets its key by SETTING, and readings of a new run arrive
with_credential() {
	local run
	run=$(last_run)
	printf '[Service]\n%s\n' "$1" >"/run/systemd/system/$UNIT.service.d/credential.conf"
	systemctl daemon-reload
	check "it starts with ${1%%=*}" timeout 100 systemctl restart "$UNIT"
	check "readings of the new run arrive" within 60 run_beyond "$run"
	same "the key is for the unit alone" "fieldpost 400" "$(stat -c '%U %a' "/proc/$(pid)/root$KEY" | sed 's/^root 440$/fieldpost 400/')"
}

credentials() {
	section "the key comes as a credential of systemd"
	local kept=/etc/fieldpost/certs/private.pem.key
	KEY=/run/credentials/$UNIT.service/private.pem.key
	cp "$CONFIG" /run/unchanged.yaml
	mkdir -p "/run/systemd/system/$UNIT.service.d" /etc/credstore /etc/credstore.encrypted
	install -o root -g root -m 0600 "$kept" /etc/credstore/private.pem.key
	mv "$kept" /run/away.key
	edit "s|^  endpoint:|  key: $KEY\n  endpoint:|"

	with_credential "LoadCredential=private.pem.key:/etc/credstore/private.pem.key"
	check "no other user can read the key" fails setpriv --reuid nobody --regid nogroup --clear-groups cat "$KEY"

	check "systemd-creds encrypts the key" systemd-creds encrypt --with-key=host --name=private.pem.key \
		/etc/credstore/private.pem.key /etc/credstore.encrypted/private.pem.key
	rm /etc/credstore/private.pem.key
	with_credential "LoadCredentialEncrypted=private.pem.key:/etc/credstore.encrypted/private.pem.key"

	mv /run/away.key "$kept"
	rm "/run/systemd/system/$UNIT.service.d/credential.conf" /etc/credstore.encrypted/private.pem.key
	edit ''
	systemctl daemon-reload
	check "it starts with the file again" timeout 100 systemctl restart "$UNIT"
}
