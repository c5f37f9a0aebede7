// Sorts and filters the table of taps, and shows one tap's section when its row's link is followed. Fetches nothing.
'use strict';
(() => {
  const taps = JSON.parse(document.getElementById('data').textContent);
  const table = document.getElementById('taps'), body = table.tBodies[0], rows = [...body.rows];
  const search = document.getElementById('search'), mode = document.getElementById('mode');
  const failed = document.getElementById('failed'), shown = document.getElementById('shown');
  const detail = document.getElementById('detail');
  const filter = () => {
    const word = search.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const hit = (!word || row.dataset.name.includes(word)) && (!mode.value || row.dataset.mode === mode.value)
        && (!failed.checked || row.dataset.failed === '1');
      row.hidden = !hit;
      count += hit;
    }
    shown.textContent = `${count} of ${rows.length} shown`;
  };
  for (const control of [search, mode, failed]) control.addEventListener('input', filter);
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener('click', () => {
    const up = head.getAttribute('aria-sort') !== 'ascending';
    for (const other of heads) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const numeric = head.classList.contains('n');
    // What has no number is after all that have one, in either order.
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (!numeric) return up ? x.localeCompare(y) : y.localeCompare(x);
      if (x === '' || y === '') return (x === '') - (y === '');
      return up ? x - y : y - x;
    };
    rows.sort(compare);
    body.append(...rows);
  }));
  const add = (parent, tag, text) => {
    const element = parent.appendChild(document.createElement(tag));
    element.textContent = text;
    return element;
  };
  const show = () => {
    const index = /^#tap-(\d+)$/.exec(location.hash);
    const tap = index && taps[index[1]];
    if (!tap) return;
    detail.replaceChildren();
    detail.hidden = false;
    const title = add(detail, 'h3', '');
    add(title, 'code', tap.name);
    title.append(` (${tap.mode})`);
    for (const line of tap.lines) add(detail, 'p', line);
    const list = add(detail, 'dl', '');
    for (const [name, value] of tap.facts) { add(list, 'dt', name); add(list, 'dd', value); }
    const back = add(detail, 'a', 'Back to the row');
    back.href = `#row-${index[1]}`;
    detail.scrollIntoView({block: 'nearest'});
    detail.focus({preventScroll: true});
  };
  addEventListener('hashchange', show);
  filter();
  show();
})();
