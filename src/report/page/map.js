// The sample's embeddings in two dimensions.
(function map() {
  if (!space) {
    byId("map-said").textContent = all ? "There is no map: fewer than two of these pictures have an embedding." : "There are no records.";
    return;
  }
  byId("map-body").hidden = false;
  const share = (n) => percent(space.explained[n] ?? 0, 1);
  byId("map-said").textContent = whole.format(space.items.length) + " pictures by the two principal components of their embeddings (" + whole.format(space.dim) + " values, scaled to length 1), which hold "
    + share(0) + " and " + share(1) + " of the variance: pictures that are apart here are unlike, those that are close may differ in what is not shown.";

  // Colours that people who see few colours tell apart (Okabe and Ito's), in two shapes.
  const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
  const labels = new Map();
  space.items.forEach((n) => {
    const label = bestOf(items[n])?.[0];
    if (label !== undefined) labels.set(label, (labels.get(label) ?? 0) + 1);
  });
  const frequent = [...labels].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 2 * colours.length).map(([label]) => label);
  const lookOf = new Map(frequent.map((label, n) => [label, { colour: colours[n % colours.length], square: n >= colours.length }]));
  const points = space.items.map((n, row) => ({ n, x: space.map[2 * row], y: space.map[2 * row + 1], look: lookOf.get(bestOf(items[n])?.[0]) }));

  const reach = ["x", "y"].map((axis) => Math.max(1e-3, ...points.map((point) => Math.abs(point[axis]))));

  const plot = byId("plot");
  const canvas = byId("canvas");
  const tip = byId("tip");
  const view = { x: 0, y: 0, zoom: 1 };
  let current = null;
  let wantedNow = new Set(hits);
  const ratio = () => Math.min(3, window.devicePixelRatio || 1);
  const place = (point) => {
    const [width, height] = [plot.clientWidth, plot.clientHeight];
    // One scale for both axes, or distances would lie.
    const unit = Math.min((width / 2 - 28) / reach[0], (height / 2 - 28) / reach[1]) * view.zoom;
    return [width / 2 + (point.x - view.x) * unit, height / 2 - (point.y - view.y) * unit];
  };
  const mark = (context, x, y, look, radius, grey) => {
    context.fillStyle = look?.colour ?? grey;
    context.beginPath();
    if (look?.square) context.rect(x - radius * 0.9, y - radius * 0.9, radius * 1.8, radius * 1.8);
    else context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  };
  let waiting = false;
  const draw = () => {
    waiting = false;
    const style = getComputedStyle(document.documentElement);
    const [grey, back, ink] = ["--line-strong", "--raised", "--ink"].map((name) => style.getPropertyValue(name).trim());
    canvas.width = Math.round(plot.clientWidth * ratio());
    canvas.height = Math.round(plot.clientHeight * ratio());
    const context = canvas.getContext("2d");
    context.scale(ratio(), ratio());
    const filtered = wantedNow.size < items.length;
    const radius = points.length > 400 ? 3.5 : 5;
    for (const top of [false, true]) {
      for (const point of points) {
        const isWanted = wantedNow.has(point.n);
        if (isWanted !== top) continue;
        const [x, y] = place(point);
        context.globalAlpha = isWanted ? (point.look || filtered ? 0.9 : 0.55) : 0.13;
        mark(context, x, y, point.look, radius, grey);
        if (!isWanted) continue;
        context.globalAlpha = 1;
        context.lineWidth = 1;
        context.strokeStyle = back;
        context.stroke();
      }
    }
    context.globalAlpha = 1;
    if (current) {
      const [x, y] = place(current);
      mark(context, x, y, current.look, radius + 1, grey);
      context.strokeStyle = ink;
      context.lineWidth = 2;
      context.beginPath();
      context.arc(x, y, radius + 5, 0, 2 * Math.PI);
      context.stroke();
    }
  };
  const redraw = () => {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  };
  const name = (point) => {
    const best = bestOf(items[point.n]);
    return (best ? shown(best[0]) + ", " + score(best[1]) + ", " : "") + nameOf(items[point.n].uri);
  };
  const choose = (point, aloud) => {
    current = point;
    tip.hidden = !point;
    if (point) {
      const item = items[point.n];
      tip.replaceChildren(...(item.thumbnail ? [frame(item, "")] : []), el("span", { class: "out" }, name(point)));
      const [x, y] = place(point);
      const left = Math.max(6, Math.min(x + 12, plot.clientWidth - tip.offsetWidth - 6));
      const top = y + 14 + tip.offsetHeight > plot.clientHeight ? y - 14 - tip.offsetHeight : y + 14;
      tip.style.transform = "translate(" + left + "px," + Math.max(6, top) + "px)";
      if (aloud) byId("map-now").textContent = name(point);
    }
    redraw();
  };
  const under = (event, reach) => {
    const box = canvas.getBoundingClientRect();
    let best = null;
    let least = reach ** 2;
    for (const point of points) {
      if (!wantedNow.has(point.n)) continue;
      const [x, y] = place(point);
      const away = (x - event.clientX + box.left) ** 2 + (y - event.clientY + box.top) ** 2;
      if (away < least) [best, least] = [point, away];
    }
    return best;
  };
  const zoom = (factor, towards) => {
    const before = view.zoom;
    view.zoom = Math.min(40, Math.max(1, view.zoom * factor));
    const part = 1 - before / view.zoom;
    if (towards) [view.x, view.y] = [view.x + (towards.x - view.x) * part, view.y + (towards.y - view.y) * part];
    if (view.zoom === 1) [view.x, view.y] = [0, 0];
    canvas.style.touchAction = view.zoom > 1 ? "none" : "pan-y";
    byId("farther").disabled = byId("whole").disabled = view.zoom === 1;
    choose(current);
  };
  byId("closer").addEventListener("click", () => zoom(1.6, current));
  byId("farther").addEventListener("click", () => zoom(1 / 1.6));
  byId("whole").addEventListener("click", () => zoom(0));
  zoom(0);

  // A pointer that moves while it is down moves the map; one that does not opens the picture.
  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    held = { x: event.clientX, y: event.clientY, moved: false };
    if (view.zoom > 1) canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return choose(under(event, 14));
    const [dx, dy] = [event.clientX - held.x, event.clientY - held.y];
    if (!held.moved && Math.hypot(dx, dy) < 5) return;
    if (view.zoom > 1) {
      const [[ax, ay], [bx, by]] = [place({ x: 0, y: 0 }), place({ x: 1, y: 1 })];
      view.x = Math.min(1, Math.max(-1, view.x - dx / (bx - ax)));
      view.y = Math.min(1, Math.max(-1, view.y - dy / (by - ay)));
    }
    held = { x: event.clientX, y: event.clientY, moved: true };
    choose(null);
  });
  canvas.addEventListener("pointerup", (event) => {
    const point = !held?.moved && under(event, event.pointerType === "touch" ? 24 : 14);
    held = null;
    if (!point) return;
    choose(point);
    plot.focus({ preventScroll: true });
    open(point.n);
  });
  canvas.addEventListener("pointercancel", () => (held = null));
  canvas.addEventListener("pointerleave", () => !held && document.activeElement !== plot && choose(null));
  canvas.addEventListener("dblclick", (event) => zoom(1.6, under(event, 200)));

  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const next = ([across, down]) => {
    const [fromX, fromY] = current ? place(current) : [plot.clientWidth / 2, plot.clientHeight / 2];
    let best = null;
    let least = Infinity;
    for (const point of points) {
      if (point === current || !wantedNow.has(point.n)) continue;
      const [x, y] = place(point);
      const [dx, dy] = [x - fromX, y - fromY];
      const ahead = dx * across + dy * down;
      const aside = Math.abs(dx * down) + Math.abs(dy * across);
      if (current && (ahead <= 0 || aside > 2 * ahead)) continue;
      const cost = current ? ahead + 2 * aside : Math.hypot(dx, dy);
      if (cost < least) [best, least] = [point, cost];
    }
    return best;
  };
  plot.addEventListener("keydown", (event) => {
    if (event.target !== plot || event.ctrlKey || event.metaKey || event.altKey) return;
    if (ways[event.key]) choose(next(ways[event.key]) ?? current, true);
    else if ((event.key === "Enter" || event.key === " ") && current) open(current.n);
    else if (event.key === "+" || event.key === "=") zoom(1.6, current);
    else if (event.key === "-") zoom(1 / 1.6);
    else if (event.key === "0") zoom(0);
    else return;
    event.preventDefault();
  });
  plot.addEventListener("blur", () => choose(null));

  const swatch = (look) => {
    const small = el("canvas", { width: 28, height: 28, "aria-hidden": "true" });
    mark(small.getContext("2d"), 14, 14, look, 10, "#87949e");
    return small;
  };
  const buttons = frequent.map((label) => {
    const button = el("button", { type: "button", "aria-pressed": "false", title: shown(label), on: () => want({ label: wanted.label === label ? null : label }) }, swatch(lookOf.get(label)), el("span", { class: "name out" }, shown(label)));
    listeners.push(() => button.setAttribute("aria-pressed", String(wanted.label === label)));
    return el("li", {}, button);
  });
  const others = labels.size - frequent.length;
  if (others > 0) buttons.push(el("li", {}, el("span", { class: "rest" }, swatch(), count(others, "other label"))));
  byId("legend").append(...buttons);

  const rows = () => {
    if (!byId("map-details").open) return;
    byId("map-rows").replaceChildren(...points.filter((point) => wantedNow.has(point.n)).map((point) => {
      const best = bestOf(items[point.n]);
      const button = el("button", { type: "button", class: "out", on: () => open(point.n) }, nameOf(items[point.n].uri));
      return el("tr", {}, el("td", {}, button), el("td", { class: "out" }, best ? shown(best[0]) : "\u2013"), el("td", {}, score(best?.[1])), el("td", {}, point.x.toFixed(2)), el("td", {}, point.y.toFixed(2)));
    }));
  };
  byId("map-details").addEventListener("toggle", rows);
  listeners.push(() => {
    wantedNow = new Set(hits);
    if (current && !wantedNow.has(current.n)) choose(null);
    rows();
    redraw();
  });
  new ResizeObserver(redraw).observe(plot);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  redraw();
})();
