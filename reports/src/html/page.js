// Sorts and filters the table of taps, and makes one tap's section when its link is followed. Fetches nothing.
'use strict';
(() => {
  const taps = JSON.parse(document.getElementById('data').textContent);
  const table = document.getElementById('taps'), body = table.tBodies[0], rows = [...body.rows];
  const search = document.getElementById('search'), mode = document.getElementById('mode');
  const system = document.getElementById('system');
  const failed = document.getElementById('failed'), shown = document.getElementById('shown');
  const detail = document.getElementById('detail');
  // Which tap of the record each row is of.
  let order = rows.map((_, at) => at);

  const filter = () => {
    const word = search.value.trim().toLowerCase();
    let count = 0;
    rows.forEach((row, at) => {
      const tap = taps[order[at]];
      const hit = (!word || tap.name.toLowerCase().includes(word)) && (!mode.value || tap.mode === mode.value)
        && (!system.value || tap.system === system.value) && (!failed.checked || tap.failed);
      if (row.hidden === hit) row.hidden = !hit;
      count += hit;
    });
    shown.textContent = `${count} of ${rows.length} shown`;
  };
  for (const control of [search, mode, system, failed]) control.addEventListener('input', filter);

  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener('click', () => {
    const up = head.getAttribute('aria-sort') !== 'ascending';
    for (const other of heads) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const numeric = head.classList.contains('n');
    const text = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const keyed = rows.map((row, at) => [text(row), row, order[at]]);
    // What has no number is after all that have one, in either order.
    const compare = ([x], [y]) => {
      if (!numeric) return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
      if (x === '' || y === '') return (x === '') - (y === '');
      return up ? x - y : y - x;
    };
    keyed.sort(compare);
    keyed.forEach(([, row], at) => { rows[at] = row; });
    order = keyed.map(([,, tap]) => tap);
    body.append(...rows);
  }));

  // The chart is there, drawn by the server: what is drawn here is of its kind.
  const namespace = document.querySelector('figure svg').namespaceURI;
  const add = (parent, tag, text = '') => {
    const element = parent.appendChild(document.createElement(tag));
    element.textContent = text;
    return element;
  };
  const draw = (parent, tag, attributes, text) => {
    const element = parent.appendChild(document.createElementNS(namespace, tag));
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const figure = (parent, title, width, height, label) => {
    const box = add(parent, 'figure');
    add(box, 'h4', title);
    return [box, draw(box, 'svg', {viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label})];
  };

  const statistics = (parent, rows) => {
    const box = add(parent, 'figure');
    add(box, 'h4', 'The two tensors');
    const table = add(box, 'table'), head = add(add(table, 'thead'), 'tr'), body = add(table, 'tbody');
    for (const [name, kind] of [['', ''], ['reference', 'n'], ['candidate', 'n']]) {
      const cell = add(head, 'th', name);
      cell.scope = 'col';
      cell.className = kind;
    }
    for (const [what, ...values] of rows) {
      const row = add(body, 'tr');
      add(row, 'th', what).scope = 'row';
      for (const value of values) add(row, 'td', value).className = 'n';
    }
  };

  const histogram = (parent, {from, step, counts, exact, unmeasured, tolerance}) => {
    const most = Math.max(...counts, 1), width = 460, height = 200, base = 170, left = 20;
    let low = Math.floor(from), high = Math.ceil(from + step * counts.length);
    if (tolerance !== null) { low = Math.min(low, Math.floor(tolerance)); high = Math.max(high, Math.ceil(tolerance)); }
    high = Math.max(high, low + 1);
    const x = log => left + (width - 2 * left) * (log - low) / (high - low);
    const total = counts.reduce((sum, count) => sum + count, 0);
    const [box, svg] = figure(parent, 'How the error is spread', width, height,
      `Histogram of the error: ${total} elements from 1e${from} to 1e${from + step * counts.length} of the reference's RMS`);
    counts.forEach((count, at) => {
      const tall = count && Math.max(1, 150 * count / most), start = from + step * at;
      const bar = draw(svg, 'rect', {class: tolerance !== null && start >= tolerance ? 'bar over-bar' : 'bar',
        x: x(start) + 0.5, width: Math.max(1, x(start + step) - x(start) - 1), y: base - tall, height: tall});
      draw(bar, 'title', {}, `${count} elements are off by 1e${start} to 1e${start + step}`);
    });
    draw(svg, 'path', {class: 'axis', d: `M${left} ${base}H${width - left}`});
    const every = Math.ceil((high - low) / 8);
    for (let log = low; log <= high; log += every) {
      draw(svg, 'text', {x: x(log), y: base + 14, 'text-anchor': 'middle'}, `1e${log}`);
    }
    if (tolerance !== null) {
      draw(svg, 'path', {class: 'limit', d: `M${x(tolerance)} 8V${base}`});
      const end = x(tolerance) > width / 2;
      draw(svg, 'text', {x: x(tolerance) + (end ? -4 : 4), y: 16, 'text-anchor': end ? 'end' : 'start'}, 'tolerance (of the RMS)');
    }
    const notes = ['elements by |difference| ÷ the reference\u2019s RMS'];
    if (exact) notes.push(`${exact} are equal`);
    if (unmeasured) notes.push(`${unmeasured} cannot be measured`);
    add(box, 'figcaption', notes.join('; ')).className = 'dim';
  };

  const heatmap = (parent, {axes, levels, max, worst, element}) => {
    const across = levels[0].length, down = levels.length, side = Math.max(8, Math.min(24, Math.floor(440 / across)));
    const left = 22, top = 16, width = left + across * side + 2, height = top + down * side + 2;
    const [rows, columns] = axes.length === 2 ? axes : [null, axes[0]];
    const [box, svg] = figure(parent, 'Where the error lies', width, height,
      `Heatmap of the difference, ${down} by ${across} cells; the worst element ${element ?? ''} is in row ${worst[0] + 1}, column ${worst[1] + 1}`);
    svg.style.maxWidth = `${width}px`;
    draw(svg, 'rect', {class: 'cells', x: left, y: top, width: across * side, height: down * side});
    levels.forEach((row, y) => row.forEach((level, x) => {
      if (!level) return;
      const cell = draw(svg, 'rect', {class: 'cell', x: left + x * side, y: top + y * side, width: side, height: side,
        // The root, so that small differences are seen, too.
        'fill-opacity': (0.05 + 0.95 * Math.sqrt(level / 255)).toFixed(2)});
      draw(cell, 'title', {}, `row ${y + 1}, column ${x + 1}: ${(100 * level / 255).toFixed(0)} % of the largest`);
    }));
    draw(svg, 'rect', {class: 'worst', x: left + worst[1] * side, y: top + worst[0] * side, width: side, height: side});
    draw(svg, 'text', {x: left, y: 11}, `axis ${columns.axis}: 0 … ${columns.length - 1} →`);
    if (rows) {
      draw(svg, 'text', {transform: `translate(14 ${top}) rotate(90)`}, `axis ${rows.axis}: 0 … ${rows.length - 1} →`);
    }
    add(box, 'figcaption', `the largest |difference| of each cell; full colour: ${max}. The box holds the worst element${element ? ` ${element}` : ''}.`)
      .className = 'dim';
  };

  const show = () => {
    const dot = /^#dot-(\d+)$/.exec(location.hash);
    if (dot && dots.has(Number(dot[1]))) {
      here = Number(dot[1]);
      chart.focus();
      stand(here);
      return;
    }
    const index = /^#tap-(\d+)$/.exec(location.hash);
    const tap = index && taps[index[1]];
    if (!tap) return;
    detail.replaceChildren();
    detail.hidden = false;
    const title = add(detail, 'h3');
    add(title, 'code', tap.name);
    title.append(` (${tap.mode})`);
    for (const line of tap.lines) add(detail, 'p', line).className = line.startsWith('likely cause') ? 'hint' : '';
    const list = add(detail, 'dl');
    for (const [name, value] of tap.facts) { add(list, 'dt', name); add(list, 'dd', value); }
    if (tap.stats) {
      const figures = add(detail, 'div');
      figures.className = 'figures';
      histogram(figures, tap.histogram);
      if (tap.heatmap) heatmap(figures, tap.heatmap);
      statistics(figures, tap.stats);
    } else {
      add(detail, 'p', 'Histogram, heatmap and statistics are kept of the first failures and of the worst taps of each part of the model.')
        .className = 'dim';
    }
    const nav = add(detail, 'p'), at = Number(index[1]);
    for (const [word, hash] of [['← previous', at && `tap-${at - 1}`], ['next →', at + 1 < taps.length && `tap-${at + 1}`],
      ['its row in the table', `row-${at}`], ['its dot in the chart', dots.has(at) && `dot-${at}`]]) {
      if (!hash) continue;
      const link = add(nav, 'a', word);
      link.href = `#${hash}`;
      nav.append(' ');
    }
    detail.scrollIntoView({block: 'start'});
    detail.focus({preventScroll: true});
  };
  addEventListener('hashchange', show);

  // The chart's dots lead to their taps. By keyboard the chart is one stop: arrows move from dot to dot, Enter leads to its tap.
  const chart = document.querySelector('figure svg'), under = document.getElementById('under');
  const dots = new Map([...chart.querySelectorAll('circle[data-t]')].map(dot => [Number(dot.dataset.t), dot]));
  const measured = [...dots.keys()].sort((x, y) => x - y);
  const tell = at => { under.textContent = `${taps[at].name} (${taps[at].mode}): ${taps[at].lines[0] ?? ''}`; };
  const follow = at => {
    if (location.hash === `#tap-${at}`) show(); else location.hash = `tap-${at}`;
  };
  let here = measured.find(at => taps[at].failed) ?? measured[0], ring;
  const stand = at => {
    here = at;
    ring ??= draw(chart, 'circle', {class: 'ring', r: 8});
    for (const name of ['cx', 'cy']) ring.setAttribute(name, dots.get(at).getAttribute(name));
    ring.scrollIntoView({block: 'nearest', inline: 'nearest'});
    tell(at);
  };
  const moved = key => {
    const {name, mode} = taps[here];
    const own = measured.filter(at => taps[at].mode === mode), at = own.indexOf(here);
    const to = {ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 20, PageDown: at + 20, Home: 0, End: own.length - 1}[key];
    if (to !== undefined) return own[Math.min(Math.max(to, 0), own.length - 1)];
    const other = at => taps[at].name === name && taps[at].mode !== mode;
    return key === 'ArrowUp' || key === 'ArrowDown' ? measured.find(other) ?? here : undefined;
  };
  chart.addEventListener('click', ({target}) => {
    if (target.dataset.t === undefined) return;
    here = Number(target.dataset.t);
    follow(here);
  });
  chart.addEventListener('pointerover', ({target}) => {
    if (target.dataset.t !== undefined) tell(target.dataset.t);
  });
  chart.addEventListener('focus', () => {
    if (chart.matches(':focus-visible')) stand(here);
  });
  chart.addEventListener('keydown', event => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const follows = event.key === 'Enter' || event.key === ' ', to = moved(event.key);
    if (!follows && to === undefined) return;
    event.preventDefault();
    if (follows) follow(here); else stand(to);
  });
  if (measured.length > 0) {
    const two = new Set(taps.map(tap => tap.mode)).size > 1;
    const keys = `← → along the taps, ${two ? '↑ ↓ the same tap in the other mode, ' : ''}Enter: its details`;
    under.textContent = `Point at a dot, or by keyboard: ${keys}.`;
    const said = {tabindex: 0, role: 'application', 'aria-roledescription': 'chart', 'aria-label': `${chart.getAttribute('aria-label')} ${keys}.`};
    for (const [name, value] of Object.entries(said)) chart.setAttribute(name, value);
  }

  // Thousands of rows take their time to be laid out: the first ones come with the page, the rest once it is shown, or as soon as
  // anything is done with the table.
  const all = () => body.classList.remove('few');
  body.classList.add('few');
  for (const part of document.querySelectorAll('.late')) part.classList.remove('late');
  const later = window.requestIdleCallback ?? (work => setTimeout(work, 100));
  addEventListener('load', () => later(all, {timeout: 1000}));
  for (const control of [search, mode, system, failed]) control.addEventListener('input', all);
  table.tHead.addEventListener('click', all);
  addEventListener('hashchange', all);
  show();
})();
