'use strict';
// The page of a fieldpost daemon. It shows what /events sends each second, draws what /history
// has, and sends orders. Text from the daemon goes into the page as text only.
(() => {
  const $ = (id) => document.getElementById(id);
  const el = (tag, cls, ...kids) => {
    const e = document.createElement(tag);
    if (cls) e.className = cls;
    e.append(...kids.filter((k) => k !== null && k !== undefined));
    return e;
  };
  // set changes the text of an element only if it differs, so that nothing is announced twice.
  // prose returns text with what stands between backticks as code.
  const prose = (text) => String(text).split('`').map((part, i) => (i % 2 ? el('code', '', part) : part));
  const set = (e, text) => { if (e.textContent !== text) e.textContent = text; };

  // --- words -------------------------------------------------------------------------------
  const words = (name) => name.replace(/_/g, ' ');
  const span = (s) => {
    s = Math.max(0, Math.round(s));
    if (s < 60) return s + ' s';
    if (s < 3600) return Math.floor(s / 60) + ' min' + (s < 600 && s % 60 ? ' ' + (s % 60) + ' s' : '');
    if (s < 172800) return Math.floor(s / 3600) + ' h' + (Math.floor(s % 3600 / 60) ? ' ' + Math.floor(s % 3600 / 60) + ' min' : '');
    return Math.floor(s / 86400) + ' days';
  };
  const clock = (t) => new Date(t).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  const number = (v) => {
    if (typeof v === 'boolean') return v ? 'yes' : 'no';
    if (typeof v !== 'number') return String(v);
    const a = Math.abs(v);
    const digits = a >= 1000 ? 0 : a >= 100 ? 1 : 2;
    return v.toLocaleString('en', { maximumFractionDigits: digits, useGrouping: a >= 10000 }).replace(/,/g, '\u202f');
  };
  const count = (n, one, many) => n + ' ' + (n === 1 ? one : many);

  // --- state -------------------------------------------------------------------------------
  let state = null;         // the latest
  let heard = 0;            // when it came, by performance.now
  let lostSince = null;     // a Date, while the board does not answer
  let source = null;        // the stream of events
  let session = { look: true, order: false, token: false };
  let range = '1h';
  const outputs = new Map(); // name: elements
  const sensors = new Map(); // name: elements

  async function call(method, path, body) {
    const r = await fetch(path, {
      method, credentials: 'same-origin', cache: 'no-store',
      headers: Object.assign({ 'Fieldpost-Key': localStorage.getItem('key') || '' }, body === undefined ? {} : { 'Content-Type': 'application/json' }),
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const a = await r.json().catch(() => ({}));
    if (!r.ok) throw Object.assign(new Error((a.error && a.error.text) || 'the board answered ' + r.status), { status: r.status, hint: a.error && a.error.hint });
    return a;
  }

  // --- life --------------------------------------------------------------------------------
  // Events come only while the page is visible: nobody pays for a page that nobody sees.
  function listen() {
    if (source || document.hidden || !session.look) return;
    source = new EventSource('events');
    source.onmessage = (m) => {
      state = JSON.parse(m.data);
      heard = performance.now();
      found();
      draw();
    };
    source.onerror = () => {
      if (!source || source.readyState !== EventSource.CLOSED) { lose(); return; }
      source = null; // refused, as too many look
      glance();
    };
  }
  // glance asks for the state once, while the board has no events for this browser.
  async function glance() {
    try {
      state = await call('GET', 'state');
      heard = performance.now();
      found();
      draw();
    } catch { lose(); }
    setTimeout(refresh, 5000);
  }
  function deaf() { if (source) { source.close(); source = null; } }
  function lose() {
    if (!lostSince) lostSince = new Date(Date.now() - (heard ? performance.now() - heard : 0));
    document.body.classList.add('gone');
    $('lost').hidden = false;
    set($('lost'), 'No answer from the board since ' + clock(lostSince) + '. ' + (state ? 'What you see is from then.' : 'It is tried again.'));
    $('live').className = 'live down';
    set($('live'), 'Not live');
    for (const o of outputs.values()) o.enable();
    for (const n of sensors.values()) set(n.age, 'at ' + clock(lostSince));
    const list = $('fault-list');
    if (list.dataset.key !== 'gone') {
      list.dataset.key = 'gone';
      list.replaceChildren(el('article', 'fault error', el('h3', '', el('span', 'tag', 'Act now'), el('b', '', 'The board does not answer this browser')),
        el('dl', '', el('dt', '', 'What to do'), el('dd', 'cure', 'Check its power and its network. On the board, ', el('code', '', 'systemctl status fieldpost'), ' says whether the daemon runs.'),
          el('dt', '', 'What it means'), el('dd', '', 'The daemon may go on without this page, or may have stopped; outputs are at their safe levels then.'))));
    }
  }
  function found() {
    if (!lostSince && !document.body.classList.contains('gone')) return;
    lostSince = null;
    document.body.classList.remove('gone');
    $('lost').hidden = true;
    loadHistory();
  }
  async function refresh() {
    try { session = await call('GET', 'session'); } catch { lose(); setTimeout(refresh, 5000); return; }
    $('account').hidden = !session.token && !session.order;
    set($('account'), session.order ? 'Stop allowing orders' : 'Allow orders');
    if (!session.look) { set($('live'), 'Enter the token to see this board'); showLogin(); return; }
    if (state) draw();
    listen();
  }
  document.addEventListener('visibilitychange', () => { if (document.hidden) { deaf(); if (feed) feed.close(); } else { refresh(); loadHistory(); if (wanted) subscribe(wanted); } });
  setInterval(() => { // a stream that is silent is no stream
    if (source && !document.hidden && heard && performance.now() - heard > 6000) { deaf(); lose(); refresh(); }
  }, 2000);

  // --- what is wrong -----------------------------------------------------------------------
  function drawFaults(s) {
    const list = $('fault-list');
    const shown = s.faults.filter((f) => !f.because);
    const key = JSON.stringify(s.faults.map((f) => [f.code, f.subject, f.detail]));
    if (list.dataset.key !== key) {
      list.dataset.key = key;
      list.replaceChildren();
      if (!shown.length) list.append(el('p', 'well', 'Nothing. All sensors and outputs work' + (s.link.connected ? ', and the broker is connected.' : '.')));
      shown.sort((a, b) => Number(b.error) - Number(a.error));
      for (const f of shown) {
        const since = el('span', 'since');
        since.dataset.fault = f.code + ' ' + f.subject;
        const follows = s.faults.filter((g) => g.because && g.because.code === f.code && g.because.subject === f.subject).map((g) => g.subject + ': ' + g.title);
        const dl = el('dl', '', el('dt', '', 'What to do'), el('dd', 'cure', ...prose(f.hint)), el('dt', '', 'What it means'), el('dd', '', ...prose(f.meaning)), el('dt', '', 'Seen'), el('dd', '', f.detail));
        if (follows.length) dl.append(el('dt', '', 'Because of it'), el('dd', '', follows.join(', ')));
        list.append(el('article', 'fault' + (f.error ? ' error' : ''),
          el('h3', '', el('span', 'tag', f.error ? 'Act now' : 'Look at it'), el('b', '', f.subject + ': ' + f.title), ' ', since), dl));
      }
    }
    for (const e of list.querySelectorAll('[data-fault]')) {
      const f = shown.find((x) => x.code + ' ' + x.subject === e.dataset.fault);
      if (f) set(e, 'for ' + span(f.for_s));
    }
    document.title = (shown.length ? '(' + shown.length + ') ' : '') + s.thing + ' - fieldpost';
  }

  // --- outputs -----------------------------------------------------------------------------
  const lasts = [['30s', '30 seconds'], ['5m', '5 minutes'], ['30m', '30 minutes'], ['2h', '2 hours'], ['', 'until it is switched off']];
  const causes = {
    initial: 'since the start of the daemon', stop: 'because the daemon stopped', mqtt: 'by an order from the broker', order: 'by an order',
    for_ended: 'because the order\u2019s time was over', pulse_ended: 'because the pulse was over', max_on: 'because it was on for the longest time allowed',
    link_lost: 'because the broker was lost', refresh_lost: 'because no order came in time', interlock: 'because of an interlock',
    level_lost: 'because the line was found at another level', failed: 'because the line did not take its level', removed: 'because of a reload',
  };
  const causeText = (c) => causes[c] || (/^(page|local)/.test(c) ? 'by an order from ' + (c.startsWith('page') ? 'this page, ' + c.slice(10) : 'this machine, ' + c.slice(6)) : 'because of ' + words(c));
  function boundsText(b) {
    const t = [];
    t.push(b.safe ? 'safe level ' + b.safe : 'keeps its level when the daemon stops');
    if (b.max_on_s) t.push('on for ' + span(b.max_on_s) + ' at most');
    if (b.safe_after_s) t.push('made safe ' + span(b.safe_after_s) + ' after the broker is lost');
    if (b.refresh_s) t.push('made safe without an order for ' + span(b.refresh_s));
    if (b.min_on_s) t.push('stays on for ' + span(b.min_on_s) + ' at least');
    if (b.min_off_s) t.push('stays off for ' + span(b.min_off_s) + ' at least');
    return t.join(', ').replace(/^./, (c) => c.toUpperCase());
  }
  function newOutput(name) {
    const o = { name, busy: false };
    o.pill = el('span', 'pill');
    o.why = el('p', 'small');
    o.bounds = el('p', 'small');
    o.error = el('p', 'small bad');
    o.on = el('button', '', 'Switch on');
    o.off = el('button', '', 'Switch off');
    for (const b of [o.on, o.off]) b.type = 'button';
    o.on.setAttribute('aria-label', 'Switch ' + name + ' on');
    o.off.setAttribute('aria-label', 'Switch ' + name + ' off');
    o.buttons = el('div', 'buttons', o.on, o.off);
    o.confirm = el('div', 'confirm');
    o.confirm.hidden = true;
    o.root = el('li', 'output', el('div', 'out-head', el('h3', '', name), o.pill), o.why, o.bounds, o.error, o.buttons, o.confirm);
    o.root.dataset.output = name;
    o.on.addEventListener('click', () => ask(o, 'on'));
    o.off.addEventListener('click', () => { if (o.safe && o.safe !== 'off') ask(o, 'off'); else order(o, { output: name, action: 'off' }); });
    o.enable = () => {
      const can = session.order && !lostSince && !o.busy;
      o.on.disabled = o.off.disabled = !can;
      o.buttons.hidden = !session.order;
      if (!can && !o.busy) o.confirm.hidden = true;
    };
    return o;
  }
  // ask shows what is about to happen: what moves something needs a second click.
  function ask(o, action) {
    const c = o.confirm;
    c.replaceChildren();
    const go = el('button', 'go', 'Switch ' + action);
    const no = el('button', '', 'Cancel');
    go.type = no.type = 'button';
    let level = null;
    let last = null;
    c.append(el('p', '', 'Switch ' + o.name + ' ' + action + '?'));
    if (o.pwm && action === 'on') {
      level = el('input');
      level.type = 'number'; level.min = '0'; level.max = '100'; level.value = '100'; level.id = 'level-' + o.name;
      const l = el('label', '', 'Level in percent'); l.htmlFor = level.id;
      c.append(l, level);
    }
    if (action === 'on') {
      last = el('select'); last.id = 'for-' + o.name;
      for (const [v, t] of lasts) {
        const opt = el('option', '', t); opt.value = v; last.append(opt);
      }
      const l = el('label', '', 'For how long'); l.htmlFor = last.id;
      c.append(l, last);
    }
    c.append(el('div', 'buttons', go, no));
    c.hidden = false;
    o.on.setAttribute('aria-expanded', 'true');
    const close = () => { c.hidden = true; o.on.removeAttribute('aria-expanded'); };
    no.addEventListener('click', () => { close(); o.on.focus(); });
    c.onkeydown = (e) => { if (e.key === 'Escape') { close(); o.on.focus(); } };
    go.addEventListener('click', () => {
      const body = { output: o.name, action };
      if (level && level.value !== '100') { body.action = 'set'; body.level = Number(level.value); }
      if (last && last.value) body.for = last.value;
      close();
      order(o, body);
    });
    go.focus();
  }
  async function order(o, body) {
    body.id = 'page-' + [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, '0')).join('');
    const what = o.name + ' ' + (body.level !== undefined ? body.level + ' %' : body.action) + (body.for ? ' for ' + body.for : '');
    o.busy = true;
    o.enable();
    set($('said'), what + ': on its way');
    $('said').className = 'said';
    let text;
    let good = false;
    try {
      const a = await call('POST', 'order', body);
      good = a.status === 'done';
      text = a.status + (a.reason ? ': ' + words(a.reason) : '') + (a.hint ? '. ' + a.hint : '');
    } catch (e) {
      text = e.status ? e.message + (e.hint ? '. ' + e.hint : '') : 'no answer came: look at the state of ' + o.name;
      if (e.status === 401) refresh();
    }
    o.busy = false;
    o.enable();
    $('said').className = 'said ' + (good ? 'good' : 'bad');
    set($('said'), what + ': ' + text);
  }
  function drawLog() {
    const recent = state.recent || [];
    const key = recent.map((r) => r.time + r.output + r.status).join();
    if ($('order-list').dataset.key === key) return;
    $('order-list').dataset.key = key;
    $('order-list').replaceChildren(...recent.map((r) => {
      const to = r.level !== undefined && r.level !== null && r.level > 0 && r.level < 100 ? number(r.level) + ' %' : r.state;
      const text = (r.output || 'an order') + ': ' + r.status + (to ? ', it is ' + to : '') + (r.reason ? ': ' + words(r.reason) : '') + (r.hint ? '. ' + r.hint : '');
      return el('li', '', el('time', '', clock(r.time)), text, ' ', el('span', 'range-note', causeText(r.cause)));
    }));
  }
  function drawOutputs(s) {
    $('outputs').hidden = !s.outputs.length;
    const names = s.outputs.map((o) => o.name);
    if (names.join('\n') !== [...outputs.keys()].join('\n')) {
      outputs.clear();
      for (const n of names) outputs.set(n, newOutput(n));
      $('output-list').replaceChildren(...[...outputs.values()].map((o) => o.root));
    }
    for (const x of s.outputs) {
      const o = outputs.get(x.name);
      const b = state.bounds[x.name] || {};
      o.pwm = b.pwm; o.safe = b.safe;
      const level = x.level !== undefined && x.level !== null && x.level > 0 && x.level < 100 ? number(x.level) + ' %' : null;
      const text = x.error ? 'unknown' : level || x.state || 'unknown';
      set(o.pill, text === 'on' ? 'On' : text === 'off' ? 'Off' : text === 'unknown' ? 'Not known' : text);
      o.pill.className = 'pill' + (x.error || (x.faults && x.faults.length) ? ' bad' : x.state === 'on' ? ' on' : '');
      set(o.why, x.since ? 'For ' + span(x.for_s) + (x.cause ? ', ' + causeText(x.cause) : '') : 'Not driven yet');
      set(o.bounds, boundsText(b));
      set(o.error, x.error || '');
      o.error.hidden = !x.error;
      o.enable();
    }
  }

  // --- readings ----------------------------------------------------------------------------
  function newSensor(x) {
    const n = { quantities: new Map() };
    n.age = el('span', 'age');
    n.fault = el('p', 'small bad');
    n.body = el('div', '');
    n.root = el('article', 'sensor', el('div', 'out-head', el('h3', '', x.name), n.age), n.fault, n.body);
    n.root.dataset.sensor = x.name;
    return n;
  }
  function newQuantity(sensor, name) {
    const q = { name, value: document.createTextNode(''), unit: el('small', ''), plot: el('div', 'plot'), note: el('p', 'range-note') };
    q.plot.hidden = true;
    q.root = el('div', 'quantity', el('div', 'q-head', el('span', 'q-name', words(name)), el('span', 'num', q.value, q.unit)), q.plot, q.note);
    q.root.dataset.quantity = name;
    return q;
  }
  function drawSensors(s) {
    const names = s.sensors.map((x) => x.name + ' ' + x.chip);
    if (names.join('\n') !== [...sensors.keys()].join('\n')) {
      sensors.clear();
      for (const x of s.sensors) sensors.set(x.name + ' ' + x.chip, newSensor(x));
      $('sensor-list').replaceChildren(...[...sensors.values()].map((n) => n.root));
      loadHistory();
    }
    for (const x of s.sensors) {
      const n = sensors.get(x.name + ' ' + x.chip);
      const bad = (x.faults || []).map((code) => { const f = s.faults.find((g) => g.code === code && g.subject === x.name); return f ? f.title : words(code); });
      n.root.classList.toggle('stale', bad.length > 0);
      set(n.age, x.time ? (bad.length ? 'last value ' : '') + (x.age_s < 2 && !bad.length ? 'now' : span(x.age_s) + ' ago') : 'no reading yet');
      set(n.fault, bad.join(', '));
      n.fault.hidden = !bad.length;
      for (const [name, v] of Object.entries(x.values || {})) {
        let q = n.quantities.get(name);
        if (!q) {
          q = newQuantity(x.name, name);
          n.quantities.set(name, q);
          n.body.append(q.root);
        }
        if (q.value.data !== number(v)) q.value.data = number(v);
        set(q.unit, (state.symbols[x.name] || {})[name] || '');
      }
    }
  }

  // --- plots -------------------------------------------------------------------------------
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let loading = 0;
  async function loadHistory() {
    const mine = ++loading;
    if (document.hidden || !state || lostSince) return;
    for (const x of state.status.sensors) {
      let h;
      try { h = await call('GET', 'history?sensor=' + encodeURIComponent(x.name) + '&since=' + range + '&points=240'); } catch { continue; }
      if (mine !== loading) return;
      const n = sensors.get(x.name + ' ' + x.chip);
      if (!n) continue;
      for (const one of h.series) {
        const q = n.quantities.get(one.quantity);
        if (q) plot(q, one);
      }
    }
  }
  function plot(q, h) {
    const t = h.times_s || [];
    const known = (h.mean || []).filter((v) => v !== null);
    if (t.length < 2 || known.length < 2) { q.plot.hidden = true; set(q.note, ''); return; }
    q.plot.hidden = false;
    const low = Math.min(...h.min.filter((v) => v !== null));
    const high = Math.max(...h.max.filter((v) => v !== null));
    const unit = h.symbol ? ' ' + h.symbol : '';
    set(q.note, number(low) + ' to ' + number(high) + unit + ' in this ' + { '1h': 'hour', '1d': 'day', '1w': 'week' }[range]);
    q.plot.setAttribute('role', 'img');
    q.plot.setAttribute('aria-label', words(q.name) + ', ' + q.note.textContent);
    const data = [t, h.max, h.min, h.mean];
    const width = q.plot.clientWidth || 300;
    const now = Date.now() / 1000;
    q.until = state ? Date.parse(state.status.time) / 1000 : now;
    if (q.u) q.u.destroy();
    q.plot.replaceChildren();
    const dark = css('--plot');
    q.u = new uPlot({
      width, height: 92, padding: [6, 0, 0, 0], legend: { show: false }, cursor: { show: false }, select: { show: false },
      scales: {
        x: { time: true, range: () => [q.until - { '1h': 3600, '1d': 86400, '1w': 604800 }[range], q.until] },
        y: { range: (u, a, b) => (a === b ? [a - 1, b + 1] : [a - (b - a) * 0.1, b + (b - a) * 0.1]) },
      },
      axes: [
        { stroke: css('--soft'), grid: { stroke: css('--grid'), width: 1 }, ticks: { show: false }, size: 22, font: '11px system-ui', space: 70, values: (u, v) => v.map((x) => label(x)) },
        { show: false },
      ],
      series: [{}, { stroke: 'transparent', width: 0, points: { show: false } }, { stroke: 'transparent', width: 0, points: { show: false } }, { stroke: dark, width: 2, points: { show: false } }],
      bands: [{ series: [1, 2], fill: css('--band') }],
    }, data, q.plot);
  }
  function label(x) {
    const d = new Date(x * 1000);
    return range === '1w' ? d.toLocaleDateString([], { weekday: 'short' }) : d.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  }
  setInterval(loadHistory, 15000);
  let resizing = 0;
  addEventListener('resize', () => { clearTimeout(resizing); resizing = setTimeout(loadHistory, 200); });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', loadHistory);
  for (const b of document.querySelectorAll('[data-range]')) {
    b.addEventListener('click', () => {
      range = b.dataset.range;
      for (const x of document.querySelectorAll('[data-range]')) x.setAttribute('aria-pressed', String(x === b));
      loadHistory();
    });
  }

  // --- delivery and orders -----------------------------------------------------------------
  function facts(dl, all) {
    const key = all.map((f) => f[0]).join('\n');
    if (dl.dataset.key !== key) {
      dl.dataset.key = key;
      dl.replaceChildren(...all.map(([k, , wide]) => el('div', wide ? 'wide' : '', el('dt', '', k), el('dd', ''))));
    }
    const values = dl.querySelectorAll('dd');
    all.forEach(([, v], i) => set(values[i], v));
  }
  function drawLink(s) {
    const l = s.link;
    const all = [
      ['Broker', l.connected ? 'connected for ' + span(l.for_s) : 'not connected for ' + span(l.for_s)],
      ['Waiting', s.spool.waiting ? count(s.spool.waiting, 'message', 'messages') + (s.spool.oldest_s ? ', the oldest ' + span(s.spool.oldest_s) : '') : 'nothing'],
      ['Delivered since the start', String(s.spool.acknowledged)],
      ['Lost since the start', s.spool.dropped || s.spool.gaps ? s.spool.dropped + ' dropped, ' + count(s.spool.gaps, 'gap', 'gaps') + ' reported' : 'nothing'],
      ['Disk', s.spool.writable ? 'can be written' : 'cannot be written'],
      ['Clock', s.clock_synchronised ? 'right' : 'not known to be right'],
      ['Certificate', s.certificate.expires ? 'until ' + new Date(s.certificate.expires).toLocaleDateString() : s.certificate.error || 'none'],
      ['Address', l.endpoint + ' as ' + l.client_id],
    ];
    if (!l.connected && l.last_error) all.push(['Why', l.last_error.text + (l.last_error.hint ? '. ' + l.last_error.hint : ''), true]);
    facts($('link'), all);
    facts($('orders'), [
      ['Carried out', String(s.orders.done)],
      ['Refused', String(s.orders.refused)],
      ['Failed', String(s.orders.failed)],
      ['Topic', s.orders.topic || 'none'],
    ]);
  }

  // --- messages ----------------------------------------------------------------------------
  // Only in a demo: its broker is the daemon's, and no policy limits what is seen here.
  const keep = 50;      // messages that are shown
  let feed = null;      // the stream of messages
  let wanted = '';      // its filter; kept while the page is hidden
  let got = 0;
  const mqttSay = (text, bad) => { $('sub-said').className = 'small' + (bad ? ' bad' : ''); set($('sub-said'), text); };
  function drawConsole() {
    $('mqtt').hidden = !state.console;
    $('pub').disabled = !session.order || Boolean(lostSince);
    $('pub').title = session.order ? '' : 'Allow orders first: a message may be an order';
  }
  function subscribe(filter) {
    unsubscribe();
    wanted = filter;
    const url = 'mqtt?filter=' + encodeURIComponent(filter);
    feed = new EventSource(url);
    feed.onopen = () => { $('message-box').hidden = false; $('sub-stop').hidden = false; mqttSay('Subscribed to ' + filter + '. Nothing has come yet.'); };
    feed.onmessage = (m) => { got++; showMessage(JSON.parse(m.data)); mqttSay('Subscribed to ' + filter + ': ' + count(got, 'message', 'messages') + '.'); };
    feed.onerror = async () => {
      if (!feed || feed.readyState !== EventSource.CLOSED) { mqttSay('No answer from the board. It is tried again.', true); return; }
      feed = null;
      let why = 'the board does not answer';
      try { // a stream does not say why it was refused
        const r = await fetch(url, { cache: 'no-store' });
        if (r.ok) { r.body.cancel(); why = 'too many pages were open; try again'; } else why = (await r.json()).error.text;
      } catch { /* it does not */ }
      mqttSay('Not subscribed: ' + why, true);
    };
  }
  function unsubscribe() {
    if (feed) feed.close();
    feed = null; wanted = ''; got = 0;
    $('sub-stop').hidden = true;
  }
  function showMessage(m) {
    const facts = ['QoS ' + m.qos, m.retained ? 'retained' : null, count(m.size, 'byte', 'bytes'), m.kind === 'bytes' ? 'not text' : null, m.cut ? 'only the beginning is shown' : null].filter(Boolean);
    const item = el('li', '', el('time', '', clock(m.time)), el('b', '', m.topic), el('span', 'range-note', facts.join(', ')), el('pre', '', m.text));
    if (m.skipped) $('messages').prepend(el('li', 'range-note', count(m.skipped, 'message was', 'messages were') + ' left out: they came too fast'));
    $('messages').prepend(item);
    while ($('messages').children.length > keep) $('messages').lastChild.remove();
  }
  $('sub-form').addEventListener('submit', (e) => { e.preventDefault(); $('messages').replaceChildren(); subscribe($('filter').value); });
  $('sub-stop').addEventListener('click', () => { unsubscribe(); mqttSay('Not subscribed.'); $('sub').focus(); });
  $('pub-order').addEventListener('click', () => {
    const s = state.status;
    const o = { id: 'demo-' + Date.now(), output: s.outputs.length ? s.outputs[0].name : 'pump', action: 'on', for: '5s', expires: new Date(Date.parse(s.time) + 60000).toISOString() };
    if (s.orders.topic) $('pub-topic').value = s.orders.topic;
    $('pub-payload').value = JSON.stringify(o, null, 1);
  });
  $('pub-form').addEventListener('submit', async (e) => {
    e.preventDefault();
    const m = { topic: $('pub-topic').value, payload: $('pub-payload').value, qos: Number($('pub-qos').value), retain: $('pub-retain').checked };
    try {
      await call('POST', 'mqtt', m);
      $('pub-said').className = 'said good';
      set($('pub-said'), 'Published to ' + m.topic + ' at ' + clock(Date.now()));
    } catch (err) {
      $('pub-said').className = 'said bad';
      set($('pub-said'), 'Not published: ' + err.message);
    }
  });

  function draw() {
    const s = state.status;
    set($('thing'), s.thing);
    if (!lostSince) {
      $('live').className = 'live ' + (s.link.connected ? 'up' : 'down');
      set($('live'), s.link.connected ? 'Live, and connected to the broker' : 'Live, but the broker is not connected');
    }
    drawFaults(s);
    drawOutputs(s);
    drawSensors(s);
    drawLink(s);
    drawLog();
    drawConsole();
    if (!performance.getEntriesByName('drawn').length) performance.mark('drawn'); // how long the first view takes
    set($('foot'), 'fieldpost ' + s.version + ' on ' + s.board + (state.demo ? ' (simulated)' : '') + ', started ' + span(s.uptime_s) + ' ago');
  }

  // --- the token ---------------------------------------------------------------------------
  function showLogin() { set($('login-error'), ''); if (!$('login').open) $('login').showModal(); $('token').focus(); }
  async function login(token, name) {
    localStorage.setItem('key', (await call('POST', 'session', { token, name })).key);
    await refresh();
  }
  $('account').addEventListener('click', async () => {
    if (!session.order) { showLogin(); return; }
    localStorage.removeItem('key');
    try { await call('DELETE', 'session'); } catch { /* shown by refresh */ }
    refresh();
  });
  $('login-cancel').addEventListener('click', () => $('login').close());
  $('login-form').addEventListener('submit', async (e) => {
    e.preventDefault();
    try {
      await login($('token').value, $('who').value);
      $('token').value = '';
      $('login').close();
    } catch (err) { set($('login-error'), err.message); }
  });

  (async () => {
    // The URL that `fieldpost page` prints has the token behind #, which no server ever sees.
    const m = /^#token=(.+)$/.exec(location.hash);
    if (m) {
      history.replaceState(null, '', location.pathname);
      try { await login(decodeURIComponent(m[1]), ''); return; } catch { /* the login asks again */ }
    }
    refresh();
  })();
})();
