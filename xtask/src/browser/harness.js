// What must hold of report.html in a real browser. `cargo xtask browser` appends it to a copy of the page and reads what it
// leaves in the element `harness`: a list of [what, whether it holds, what was found].
'use strict';
(() => {
  const results = [];
  const is = (what, holds, found = '') => results.push([what, Boolean(holds), String(found)]);
  const tick = () => new Promise(done => setTimeout(done, 20));
  const table = document.getElementById('taps'), body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const taps = JSON.parse(document.getElementById('data').textContent);
  const visible = () => [...body.rows].filter(row => !row.hidden);
  const put = (id, value) => {
    const control = document.getElementById(id);
    if (control.type === 'checkbox') control.checked = value; else control.value = value;
    control.dispatchEvent(new Event('input', {bubbles: true}));
  };

  const sorting = () => {
    for (const [column, head] of heads.entries()) {
      const button = head.firstElementChild;
      is(`column ${button.textContent} sorts by a button`, button.tagName === 'BUTTON');
      for (const [direction, sign] of [['ascending', 1], ['descending', -1]]) {
        button.click();
        is(`column ${button.textContent} says ${direction}`, head.getAttribute('aria-sort') === direction);
        is('only one column says so', table.querySelectorAll('[aria-sort]').length === 1);
        const keys = [...body.rows].map(row => row.cells[column].dataset.v ?? row.cells[column].textContent);
        const known = keys.filter(key => key !== '');
        const key = head.classList.contains('n') ? Number : String;
        const sorted = known.every((value, at) => at === 0 || sign * (key(known[at - 1]) < key(value) ? -1 : key(known[at - 1]) > key(value) ? 1 : 0) <= 0);
        is(`column ${button.textContent} is ${direction}`, sorted, known.slice(0, 5));
        is('what has no number comes last', keys.indexOf('') < 0 || keys.lastIndexOf(known.at(-1)) < keys.indexOf(''));
      }
    }
    heads.at(-1).firstElementChild.click();
    is('sorting keeps every row', body.rows.length === taps.length, body.rows.length);
  };

  const filtering = () => {
    const word = 'mlp';
    put('search', word.toUpperCase());
    const hits = taps.filter(tap => tap.name.toLowerCase().includes(word)).length;
    is('a name filters, whatever its case', visible().length === hits && hits > 0, `${visible().length} of ${hits}`);
    is('the count is told', document.getElementById('shown').textContent === `${hits} of ${taps.length} shown`);
    is('the count is told to screen readers', document.getElementById('shown').getAttribute('role') === 'status');
    put('search', '');
    put('mode', 'isolated');
    is('a mode filters', visible().length === taps.filter(tap => tap.mode === 'isolated').length);
    put('mode', '');
    put('system', 'SAM');
    is('a system filters', visible().length > 0 && visible().every(row => row.cells[1].textContent === 'SAM'));
    put('system', '');
    put('failed', true);
    const failed = taps.filter(tap => tap.failed).length;
    is('failed only', visible().length === failed, `${visible().length} of ${failed}`);
    put('failed', false);
    is('no filter shows all', visible().length === taps.length);
  };

  const sections = async () => {
    const detail = document.getElementById('detail');
    const pictured = taps.findIndex(tap => tap.heatmap);
    is('some tap has pictures', pictured >= 0);
    for (const at of new Set([0, Math.max(pictured, 0), taps.length - 1])) {
      document.querySelector(`#row-${at} a`).click();
      await tick();
      is(`the section of ${taps[at].name} is shown`, !detail.hidden && detail.querySelector('h3').textContent.startsWith(taps[at].name));
      is('it has the focus', document.activeElement === detail);
      is('it holds every fact', detail.querySelectorAll('dt').length === taps[at].facts.length);
      is('its pictures are drawn', detail.querySelectorAll('svg').length === (taps[at].stats ? 1 : 0) + (taps[at].heatmap ? 1 : 0));
    }
    if (pictured >= 0) {
      location.hash = `tap-${pictured}`;
      await tick();
      const map = taps[pictured].heatmap, cells = map.levels.flat().filter(level => level > 0).length;
      is('the heatmap has its cells', detail.querySelectorAll('.cell').length === cells, cells);
      is('the worst element is marked once', detail.querySelectorAll('.worst').length === 1);
      is('the histogram has its bars', detail.querySelectorAll('.bar').length === taps[pictured].histogram.counts.length);
      is('statistics of both tensors', detail.querySelectorAll('tbody tr').length === 6);
    }
    const dot = document.querySelector('circle[data-t]');
    dot.dispatchEvent(new MouseEvent('click', {bubbles: true}));
    await tick();
    is('a dot leads to its tap', location.hash === `#tap-${dot.dataset.t}`, location.hash);
  };

  const keyboard = async () => {
    const chart = document.querySelector('figure svg'), under = document.getElementById('under');
    const dots = chart.querySelectorAll('circle[data-t]');
    const press = key => chart.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
    const tabStops = chart.parentElement.querySelectorAll('[tabindex], a, button');
    is('the chart is one stop', chart.tabIndex === 0 && tabStops.length === 1, tabStops.length);
    is('its keys are told', [chart.getAttribute('aria-label'), under.textContent].every(text => text.includes('Enter: its details')), under.textContent);
    is('the tap is told to screen readers', under.getAttribute('role') === 'status' && under.closest('[aria-hidden]') === null);
    const measured = [...dots].map(dot => Number(dot.dataset.t)).sort((x, y) => x - y);
    const own = measured.filter(at => taps[at].mode === taps[measured[0]].mode);
    const at = place => {
      const ring = chart.querySelector('.ring'), dot = chart.querySelector(`circle[data-t="${place}"]`);
      const told = under.textContent.startsWith(`${taps[place].name} (${taps[place].mode}): ${taps[place].lines[0]}`);
      return told && ['cx', 'cy'].every(name => ring.getAttribute(name) === dot.getAttribute(name));
    };
    location.hash = `dot-${own[0]}`;
    await tick();
    is('a section leads back to its dot', document.activeElement === chart && at(own[0]), under.textContent);
    is('an arrow is not the page\'s', !press('ArrowRight'));
    is('right is the next tap', at(own[1]), under.textContent);
    is('a tab is not the chart\'s', press('Tab') && at(own[1]));
    press('End');
    is('the end is the last tap', at(own.at(-1)), under.textContent);
    press('ArrowRight');
    is('there is nothing beyond it', at(own.at(-1)), under.textContent);
    press('PageUp');
    is('a page is 20 taps', at(own.at(-21)), under.textContent);
    press('Home');
    press('ArrowLeft');
    is('home is the first', at(own[0]), under.textContent);
    const both = own.find(place => measured.some(other => taps[other].name === taps[place].name && taps[other].mode !== taps[place].mode));
    location.hash = `dot-${both}`;
    await tick();
    press('ArrowDown');
    is('down is the other mode', under.textContent.startsWith(`${taps[both].name} (${taps[both].mode === 'isolated' ? 'cumulative' : 'isolated'})`), under.textContent);
    press('ArrowUp');
    is('up is back', at(both), under.textContent);
    for (let times = 0; times < 2; ++times) {
      chart.focus();
      press('Enter');
      await tick();
      is('enter leads to its tap, again and again', location.hash === `#tap-${both}` && document.activeElement.id === 'detail', location.hash);
    }
  };

  const access = () => {
    is('the language is told', document.documentElement.lang === 'en');
    is('there is one main heading', document.querySelectorAll('h1').length === 1);
    for (const control of document.querySelectorAll('input, select')) is(`${control.id} has a label`, control.labels.length === 1);
    for (const svg of document.querySelectorAll('svg')) is('a picture says what it is', svg.getAttribute('aria-label'));
    is('no order of tabs but the page\'s', ![...document.querySelectorAll('[tabindex]')].some(element => element.tabIndex > 0));
    is('columns have scopes', heads.every(head => head.scope === 'col'));
    is('nothing sticks out sideways', document.documentElement.scrollWidth <= innerWidth, `${document.documentElement.scrollWidth} > ${innerWidth}`);
    const of = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    is('light and dark differ', of('--bg') === (matchMedia('(prefers-color-scheme: dark)').matches ? '#0d1117' : '#fff'), of('--bg'));
  };

  const fetching = async () => {
    is('nothing was fetched', performance.getEntriesByType('resource').length === 0);
    const refused = await fetch('data:text/plain,x').then(() => false, () => true);
    is('nothing could be', refused);
  };

  const errors = [];
  addEventListener('error', event => errors.push(event.message));
  addEventListener('load', async () => {
    // Everything is laid out once somebody asks how tall it is.
    const height = document.body.offsetHeight, milliseconds = performance.now();
    // Written at once: without virtual time the page is read as soon as it is loaded.
    const leave = () => {
      const element = document.getElementById('harness') ?? document.body.appendChild(document.createElement('pre'));
      element.id = 'harness';
      element.hidden = true;
      element.textContent = JSON.stringify({milliseconds, taps: taps.length, height, results});
    };
    leave();
    access();
    sorting();
    filtering();
    await sections();
    await keyboard();
    await fetching();
    is('no error was thrown', errors.length === 0, errors);
    results.push(['the end was reached', true, '']);
    leave();
  });
})();
