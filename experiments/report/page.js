"use strict";
// Draws the map and answers to pointer and keyboard; the page says everything else without it.
(() => {
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const read = (id) => JSON.parse($(id).textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const halves = (text) => new Uint16Array(bytes(text).buffer);
  const words = (text) => new Uint32Array(bytes(text).buffer);
  const NONE = 65535;
  const TABLEAU = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#9c755f", "#d4a900", "#ff9da7", "#8c8c8c"];
  const colour = (code) => (code < 10 ? TABLEAU[code] : `hsl(${(code * 137.508) % 360} 55% ${code % 2 ? 45 : 58}%)`);
  const token = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const say = (text) => { $("said").textContent = text; };
  const count = (n) => n.toLocaleString("en-US");

  // --- theme
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const themed = [];
  $("theme").hidden = false;
  $("theme").onclick = () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("headstart-theme", root.dataset.theme); } catch { /* a file may have no storage */ }
    themed.forEach((draw) => draw());
  };
  try {
    const kept = localStorage.getItem("headstart-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { /* likewise */ }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => themed.forEach((draw) => draw()));

  // --- lines of a pen, written beforehand: the one that is meant, stroke by stroke
  const pen = (lines) => {
    const typed = $("pen-text"), bias = $("pen-bias"), hand = $("pen-hand"), paper = $("paper");
    const texts = [...new Set(lines.map((line) => line.text))];
    const PACE = 150; // points a second
    let frame = 0;
    const meant = () => {
      const want = typed.value.trim().toLowerCase();
      const like = [(t) => t === want, (t) => t.startsWith(want), (t) => t.includes(want)];
      const text = like.map((is) => texts.find((t) => is(t.toLowerCase()))).find((t) => t !== undefined);
      return lines.find((line) => line.text === text && line.bias === bias.value && line.hand === hand.value);
    };
    const write = () => {
      cancelAnimationFrame(frame);
      paper.replaceChildren();
      const line = meant();
      $("pen-said").textContent = line ? line.text : "That was not written beforehand. headstart sample RUN --text writes it.";
      paper.toggleAttribute("hidden", !line);
      if (!line) return;
      const all = line.strokes.flat(), xs = all.map((p) => p[0]), ys = all.map((p) => p[1]);
      const [left, top] = [Math.min(...xs) - 3, Math.min(...ys) - 3];
      paper.setAttribute("viewBox", `${left} ${top} ${Math.max(...xs) + 3 - left} ${Math.max(...ys) + 3 - top}`);
      const paths = line.strokes.map(() => paper.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path")));
      const show = (count) => {
        let left = count;
        line.strokes.forEach((stroke, place) => {
          const points = stroke.slice(0, Math.max(0, left));
          left -= stroke.length;
          paths[place].setAttribute("d", points.length ? `M${points.join("L")}${points.length === 1 ? "h.01" : ""}` : "");
        });
      };
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) { show(all.length); return; }
      const begun = performance.now();
      const step = (now) => {
        const count = Math.ceil(((now - begun) / 1000) * PACE);
        show(count);
        if (count < all.length) frame = requestAnimationFrame(step);
      };
      frame = requestAnimationFrame(step);
    };
    typed.value = texts[0];
    typed.onchange = bias.onchange = hand.onchange = $("pen-write").onclick = write;
    $("pen-controls").hidden = false;
    write();
  };
  if ($("pen-lines")) pen(read("pen-lines"));

  if (!$("facts")) return;
  const facts = read("facts");
  const n = facts.n;
  const label = halves(facts.label), answer = halves(facts.said), split = bytes(facts.split), sure = bytes(facts.sure);
  const level = facts.level ? bytes(facts.level) : null;
  const isWrong = bytes(facts.wrong); // 0 right, 1 wrong, 2 nobody asked

  // --- pictures: sheets of tiles, decoded when first looked at
  const tiled = words(facts.tiles);
  const tileOf = new Map();
  tiled.forEach((position, tile) => tileOf.set(position, tile));
  const names = read("names");
  const nameOf = (position) => (names.length === n ? names[position] : names[tileOf.get(position)]) || "";
  const sheets = new Map();
  const sheet = (number) => {
    if (!sheets.has(number)) {
      const image = new Image();
      image.src = `data:image/jpeg;base64,${$(`sheet-${number}`).textContent.trim()}`;
      sheets.set(number, image.decode().then(() => image));
    }
    return sheets.get(number);
  };
  const paint = (canvas, position) => {
    const { edge, columns, of } = facts.sheets;
    canvas.width = canvas.height = edge;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", nameOf(position) || "image");
    const tile = tileOf.get(position);
    if (tile === undefined) return false;
    const at = tile % of;
    sheet(Math.floor(tile / of)).then((image) => {
      canvas.getContext("2d").drawImage(image, (at % columns) * edge, Math.floor(at / columns) * edge, edge, edge, 0, 0, edge, edge);
    });
    return true;
  };
  const className = (code) => (code === NONE ? "no label" : facts.classes[code]);
  const described = (position) => {
    if (facts.task !== "classification") return [facts.values ? facts.values[position] : "", facts.splits[split[position]]];
    const lines = [className(label[position])];
    if (isWrong[position] !== 2) lines.push(`said ${className(answer[position])}, ${sure[position]} % sure`);
    lines.push(facts.splits[split[position]]);
    return lines;
  };

  // --- a grid of images
  const dialog = $("grid");
  let opener = null;
  const MOST = 240;
  const openGrid = (title, positions) => {
    const shown = positions.filter((p) => tileOf.has(p)).slice(0, MOST);
    const rest = positions.length - shown.length;
    $("grid-title").textContent = `${title}: ${count(positions.length)} image${positions.length === 1 ? "" : "s"}${rest ? `, ${count(shown.length)} of them shown` : ""}`;
    $("tiles").replaceChildren(...shown.map((position) => {
      const item = document.createElement("li");
      const canvas = document.createElement("canvas");
      paint(canvas, position);
      const text = document.createElement("p");
      text.textContent = described(position).join(", ");
      if (isWrong[position] === 1) text.className = "bad";
      const path = document.createElement("p");
      path.className = "soft";
      path.textContent = nameOf(position);
      item.append(canvas, text, path);
      return item;
    }));
    opener = document.activeElement;
    dialog.showModal();
    dialog.scrollTop = 0;
  };
  $("grid-close").onclick = () => dialog.close();
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => { if (opener) opener.focus(); });

  document.querySelectorAll("button[data-true]").forEach((button) => {
    button.onclick = () => {
      const [t, s] = [Number(button.dataset.true), Number(button.dataset.said)];
      const judged = facts.judged;
      const positions = [];
      for (let i = 0; i < n; i++) if (split[i] === judged && label[i] === t && answer[i] === s) positions.push(i);
      openGrid(t === s ? `${className(t)}, rightly said` : `${className(t)} taken for ${className(s)}`, positions);
    };
  });

  // --- the map
  if (!$("points")) return;
  const canvas = $("points"), over = $("over"), tip = $("tip"), box = $("map");
  let layout = 0, by = facts.task === "classification" ? "class" : facts.task === "regression" ? "value" : "split", only = null, active = -1;
  let places = null, order = null, pixels = null, cells = null, scale = 1, width = 0, height = 0;
  const CELL = 14;

  const layouts = facts.maps.map((map) => ({ name: map.name, xy: halves(map.xy), positions: map.positions ? words(map.positions) : null }));
  const groupOf = (position) => (by === "class" ? label[position] : by === "split" ? split[position] : by === "value" ? level[position] : isWrong[position]);
  const ramp = (value) => (value === 255 ? token("--line") : `hsl(${265 - value * 0.85} 62% ${isDark() ? 45 + value / 9 : 38 + value / 10}%)`);
  const inkOf = (group) => {
    if (by === "class") return group === NONE ? token("--line") : colour(group);
    if (by === "split") return [token("--rest"), "#b07aa1", token("--accent"), token("--line")][group];
    if (by === "value") return ramp(group);
    return [token("--rest"), token("--bad"), token("--line")][group];
  };

  const measure = () => {
    scale = Math.min(2, window.devicePixelRatio || 1);
    width = canvas.clientWidth; height = canvas.clientHeight;
    for (const each of [canvas, over]) { each.width = Math.round(width * scale); each.height = Math.round(height * scale); }
    const { xy, positions } = layouts[layout];
    const many = xy.length / 2, edge = 16, side = Math.min(width, height) - 2 * edge;
    let low = [1, 1], high = [0, 0];
    for (let i = 0; i < many; i++) for (const axis of [0, 1]) {
      const value = xy[2 * i + axis] / 65535;
      if (value < low[axis]) low[axis] = value;
      if (value > high[axis]) high[axis] = value;
    }
    const factor = Math.min((width - 2 * edge) / (high[0] - low[0] || 1), (height - 2 * edge) / (high[1] - low[1] || 1), side * 4);
    const left = (width - factor * (high[0] - low[0])) / 2, top = (height - factor * (high[1] - low[1])) / 2;
    places = new Float32Array(many * 2);
    order = positions || Uint32Array.from({ length: many }, (_, i) => i);
    cells = new Map();
    for (let i = 0; i < many; i++) {
      const x = left + factor * (xy[2 * i] / 65535 - low[0]), y = top + factor * (xy[2 * i + 1] / 65535 - low[1]);
      places[2 * i] = x; places[2 * i + 1] = y;
      const key = Math.floor(y / CELL) * 4096 + Math.floor(x / CELL);
      if (cells.has(key)) cells.get(key).push(i); else cells.set(key, [i]);
    }
    pixels = many > 20000 ? 1.3 : many > 5000 ? 2 : many > 1500 ? 2.8 : 3.6;
  };

  const isShown = (i) => only === null || groupOf(order[i]) === only;
  const mark = (context, shape, x, y, r) => { // ten colours, then another shape
    if (shape === 1) context.rect(x - r, y - r, 2 * r, 2 * r);
    else if (shape === 2) { context.moveTo(x, y - 1.3 * r); context.lineTo(x + 1.2 * r, y + r); context.lineTo(x - 1.2 * r, y + r); context.closePath(); }
    else { context.moveTo(x + r, y); context.arc(x, y, r, 0, 7); }
  };
  const draw = () => {
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const groups = new Map();
    for (let i = 0; i < order.length; i++) {
      const group = groupOf(order[i]);
      if (groups.has(group)) groups.get(group).push(i); else groups.set(group, [i]);
    }
    const quietFirst = [...groups.keys()].sort((a, b) => (by === "answer" ? [1, 2, 0][a] - [1, 2, 0][b] || 0 : a - b)).reverse();
    for (const group of quietFirst) {
      context.beginPath();
      const shape = by === "class" && group !== NONE ? Math.floor(group / 10) % 3 : 0;
      for (const i of groups.get(group)) {
        if (pixels < 1.5) context.rect(places[2 * i] - 1, places[2 * i + 1] - 1, 2, 2);
        else mark(context, shape, places[2 * i], places[2 * i + 1], pixels);
      }
      context.fillStyle = inkOf(group);
      context.globalAlpha = only === null || group === only ? (by === "answer" && group === 1 ? 1 : 0.68) : 0.08;
      context.fill();
    }
    context.globalAlpha = 1;
    const isRinged = (i) => isWrong[order[i]] === 1 && split[order[i]] === facts.judged && isShown(i) && facts.task === "classification";
    let rings = 0;
    for (let i = 0; i < order.length; i++) rings += isRinged(i);
    const isCrowded = rings > 400; // strong rings would hide the classes below them
    context.lineWidth = isCrowded ? 0.8 : 1.4;
    context.globalAlpha = isCrowded ? 0.4 : 1;
    context.strokeStyle = token("--bad");
    context.beginPath();
    for (let i = 0; i < order.length; i++) if (isRinged(i)) {
      context.moveTo(places[2 * i] + pixels + 2.4, places[2 * i + 1]);
      context.arc(places[2 * i], places[2 * i + 1], pixels + 2.4, 0, 7);
    }
    context.stroke();
    context.globalAlpha = 1;
    outline();
  };
  let rope = [];
  const outline = () => {
    const context = over.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.lineWidth = 2;
    context.strokeStyle = token("--ink");
    if (active >= 0) {
      context.beginPath();
      context.arc(places[2 * active], places[2 * active + 1], pixels + 4, 0, 7);
      context.stroke();
    }
    if (rope.length > 1) {
      context.beginPath();
      rope.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.closePath();
      context.globalAlpha = 0.12; context.fillStyle = token("--accent"); context.fill();
      context.globalAlpha = 1; context.strokeStyle = token("--accent"); context.lineWidth = 1.5; context.stroke();
    }
  };
  const nearest = (x, y, reach) => {
    let best = -1, least = reach * reach;
    const span = Math.ceil(reach / CELL), cx = Math.floor(x / CELL), cy = Math.floor(y / CELL);
    for (let row = cy - span; row <= cy + span; row++) for (let column = cx - span; column <= cx + span; column++) {
      for (const i of cells.get(row * 4096 + column) || []) {
        if (!isShown(i)) continue;
        const d = (places[2 * i] - x) ** 2 + (places[2 * i + 1] - y) ** 2;
        if (d < least) { least = d; best = i; }
      }
    }
    return best;
  };
  const point = (i, isSaid) => {
    active = i;
    outline();
    if (i < 0) { tip.hidden = true; return; }
    const position = order[i];
    const picture = tip.querySelector("canvas"), lines = tip.querySelectorAll("span");
    picture.hidden = !paint(picture, position);
    const text = described(position);
    lines[0].textContent = text[0];
    lines[0].className = isWrong[position] === 1 ? "bad" : "";
    lines[1].textContent = text.slice(1).join(", ");
    lines[2].textContent = nameOf(position);
    tip.hidden = false;
    const x = places[2 * i], y = places[2 * i + 1];
    tip.style.left = `${Math.max(0, x + 160 > width ? x - 156 : x + 14)}px`;
    tip.style.top = `${Math.max(0, Math.min(y - 20, height - tip.offsetHeight))}px`;
    if (isSaid) say(`${text.join(", ")}, ${nameOf(position)}`);
  };

  let down = null;
  const at = (event) => { const frame = canvas.getBoundingClientRect(); return [event.clientX - frame.left, event.clientY - frame.top]; };
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (down) {
      rope.push([x, y]);
      if (rope.length > 3) { active = -1; tip.hidden = true; }
      outline();
      return;
    }
    const i = nearest(x, y, 18);
    if (i !== active) point(i, false);
  });
  canvas.addEventListener("pointerleave", () => { if (!down && document.activeElement !== canvas) point(-1, false); });
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || (event.pointerType === "touch" && !box.classList.contains("lassoing"))) return;
    down = at(event); rope = [down];
    canvas.setPointerCapture(event.pointerId);
  });
  const isInside = (x, y, corners) => {
    let inside = false;
    for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
      const [xi, yi] = corners[i], [xj, yj] = corners[j];
      if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
    }
    return inside;
  };
  canvas.addEventListener("pointerup", (event) => {
    if (!down) { point(nearest(...at(event), 24), true); return; }
    const corners = rope;
    down = null; rope = [];
    outline();
    if (corners.length < 6) { const i = nearest(...corners[0], 18); if (i >= 0) around(i); return; }
    const chosen = [];
    for (let i = 0; i < order.length; i++) if (isShown(i) && isInside(places[2 * i], places[2 * i + 1], corners)) chosen.push(order[i]);
    if (chosen.length) openGrid("Selected", chosen);
  });
  canvas.addEventListener("pointercancel", () => { down = null; rope = []; outline(); });
  const around = (i) => {
    const near = [];
    for (let j = 0; j < order.length; j++) if (isShown(j)) near.push([(places[2 * j] - places[2 * i]) ** 2 + (places[2 * j + 1] - places[2 * i + 1]) ** 2, j]);
    near.sort((a, b) => a[0] - b[0]);
    openGrid("Around it on the map", near.slice(0, 24).map(([, j]) => order[j]));
  };
  const STEPS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  canvas.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (step) {
      event.preventDefault();
      const from = active >= 0 ? [places[2 * active], places[2 * active + 1]] : [width / 2, height / 2];
      let best = active, least = Infinity;
      for (let i = 0; i < order.length; i++) {
        if (i === active || !isShown(i)) continue;
        const dx = places[2 * i] - from[0], dy = places[2 * i + 1] - from[1];
        const along = dx * step[0] + dy * step[1], aside = Math.abs(dx * step[1] + dy * step[0]);
        if (along <= 0.5 || aside > 2 * along) continue;
        const cost = along + 2 * aside;
        if (cost < least) { least = cost; best = i; }
      }
      point(best, true);
    } else if (event.key === "Enter" && active >= 0) { event.preventDefault(); around(active); }
    else if (event.key === "Escape") point(-1, false);
  });
  canvas.addEventListener("blur", () => point(-1, false));

  // --- what the map is coloured by, and the key to it
  const keyFor = () => {
    const seen = new Map();
    for (let i = 0; i < order.length; i++) { const group = groupOf(order[i]); seen.set(group, (seen.get(group) || 0) + 1); }
    const called = (group) => (by === "class" ? className(group) : by === "split" ? facts.splits[group] : ["right", "wrong", "not asked"][group]);
    const list = $("keys");
    if (by === "value") {
      const item = document.createElement("li");
      item.textContent = `${facts.range[0]} (violet) to ${facts.range[1]} (yellow-green): ${facts.classes[0]}`;
      list.replaceChildren(item);
      return;
    }
    const groups = [...seen.keys()].sort((a, b) => a - b);
    const items = groups.slice(0, 40).map((group) => {
      const item = document.createElement("li"), button = document.createElement("button");
      button.type = "button";
      const swatch = document.createElement("canvas");
      swatch.width = swatch.height = 22; swatch.style.width = swatch.style.height = "11px";
      swatch.setAttribute("aria-hidden", "true");
      const context = swatch.getContext("2d");
      context.fillStyle = inkOf(group);
      context.beginPath();
      mark(context, by === "class" && group !== NONE ? Math.floor(group / 10) % 3 : 0, 11, 11, 8);
      context.fill();
      button.append(swatch, `${called(group)} (${count(seen.get(group))})`);
      button.setAttribute("aria-pressed", String(only === group));
      button.onclick = () => { only = only === group ? null : group; active = -1; tip.hidden = true; draw(); keyFor(); list.children[groups.indexOf(group)].firstChild.focus(); };
      item.append(button);
      return item;
    });
    if (groups.length > 40) { const item = document.createElement("li"); item.textContent = `and ${groups.length - 40} more`; items.push(item); }
    list.replaceChildren(...items);
  };
  const again = () => { active = -1; tip.hidden = true; measure(); draw(); keyFor(); };
  const layoutPick = $("layout"), byPick = $("by");
  layoutPick.onchange = () => { layout = Number(layoutPick.value); again(); document.querySelectorAll("[data-layout]").forEach((each) => { each.hidden = Number(each.dataset.layout) !== layout; }); };
  byPick.onchange = () => { by = byPick.value; only = null; again(); };
  $("lasso").onclick = () => { const on = box.classList.toggle("lassoing"); $("lasso").setAttribute("aria-pressed", String(on)); };
  $("controls").hidden = false;
  themed.push(again);
  let waiting = 0;
  new ResizeObserver(() => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(() => { if (canvas.clientWidth !== width) again(); }); }).observe(box);
  let before = null;
  addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; again(); });
  addEventListener("afterprint", () => { if (before) root.dataset.theme = before; else delete root.dataset.theme; again(); });
  again();
})();
