/* Sort, search, filter, compare and remember the view in the address. Every page is complete without this. */
(function () {
  "use strict";
  var root = document.documentElement;
  var KEPT = "benchmark-theme";
  var NATURAL = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  function kept() { try { return localStorage.getItem(KEPT); } catch (e) { return null; } }
  function keep(value) { try { localStorage.setItem(KEPT, value); } catch (e) { /* a private window: nothing is kept */ } }
  var theme = kept();
  if (theme === "light" || theme === "dark") { root.setAttribute("data-theme", theme); }

  function make(tag, attributes, text) {
    var node = document.createElement(tag);
    Object.keys(attributes || {}).forEach(function (name) { node.setAttribute(name, attributes[name]); });
    if (text !== undefined) { node.textContent = text; }
    return node;
  }
  function all(selector, inside) { return Array.prototype.slice.call((inside || document).querySelectorAll(selector)); }

  /* the address: #sort=robust,desc&q=cnn&cmp=a,b ; a plain #anchor is left alone */
  function readState() {
    var state = {};
    var text = location.hash.slice(1);
    if (text.indexOf("=") < 0) { return state; }
    text.split("&").forEach(function (part) {
      var at = part.indexOf("=");
      if (at > 0) { try { state[part.slice(0, at)] = decodeURIComponent(part.slice(at + 1)); } catch (e) { /* no text */ } }
    });
    return state;
  }
  function writeState(state) {
    var text = Object.keys(state).sort().filter(function (name) { return state[name]; }).map(function (name) {
      return name + "=" + encodeURIComponent(state[name]).replace(/%2C/g, ",");
    }).join("&");
    history.replaceState(null, "", location.pathname + location.search + (text ? "#" + text : ""));
  }

  function themeButton() {
    var place = document.querySelector("[data-theme-place]");
    if (!place) { return; }
    var button = make("button", { type: "button", "class": "tool" });
    function dark() {
      var set = root.getAttribute("data-theme");
      return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    }
    function name() { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", button.textContent + " colours"); }
    button.addEventListener("click", function () {
      var next = dark() ? "light" : "dark";
      root.setAttribute("data-theme", next);
      keep(next);
      name();
    });
    name();
    place.appendChild(button);
  }

  function board(table) {
    var body = table.tBodies[0];
    var rows = all("tr", body);
    var heads = all("thead th", table).filter(function (th) { return th.hasAttribute("data-col"); });
    var prefix = table.id === "main" ? "" : table.id + ".";
    var controls = document.querySelector('[data-controls="' + table.id + '"]');
    var search = controls && controls.querySelector('input[type="search"]');
    var selects = controls ? all("select[data-facet]", controls) : [];
    var bounds = controls ? all("input[data-most]", controls) : [];
    var count = controls && controls.querySelector("output");
    var panel = document.querySelector('[data-compare="' + table.id + '"]');
    var sort = { col: "", dir: "" };
    var picked = [];
    var dropped = [];
    var boxes = [];

    function name(row) { return row.querySelector("th a").textContent; }
    function cell(row, th) { return row.cells[th.cellIndex]; }
    function value(row, th) {
      var td = cell(row, th);
      var text = td.getAttribute("data-v");
      if (th.getAttribute("data-kind") === "text") { return text === null ? td.textContent.trim().toLowerCase() : text.toLowerCase(); }
      return text === null || text === "" ? NaN : Number(text);
    }
    function order(a, b, th, sign) {
      var p = value(a, th), q = value(b, th);
      if (typeof p === "number") {
        if (isNaN(p) || isNaN(q)) { return isNaN(p) - isNaN(q); } /* what was not measured comes last, both ways */
        return sign * (p - q);
      }
      return sign * NATURAL.compare(p, q); /* pgd (steps=30) before pgd (steps=100) */
    }
    function applySort() {
      var th = heads.filter(function (h) { return h.getAttribute("data-col") === sort.col; })[0];
      heads.forEach(function (h) { h.removeAttribute("aria-sort"); });
      var sorted = rows.slice();
      if (th) {
        var sign = sort.dir === "asc" ? 1 : -1;
        sorted.sort(function (a, b) { return order(a, b, th, sign) || rows.indexOf(a) - rows.indexOf(b); });
        th.setAttribute("aria-sort", sort.dir === "asc" ? "ascending" : "descending");
        table.setAttribute("data-resorted", "");
      } else {
        table.removeAttribute("data-resorted");
      }
      sorted.forEach(function (row) { body.appendChild(row); });
    }
    function applyFilter() {
      var words = search ? search.value.trim().toLowerCase().split(/\s+/) : [];
      var shown = 0;
      rows.forEach(function (row) {
        var text = row.textContent.toLowerCase();
        var fits = words.every(function (word) { return text.indexOf(word) >= 0; });
        selects.forEach(function (select) {
          var has = (row.getAttribute("data-" + select.getAttribute("data-facet")) || "").split("|");
          if (select.value && has.indexOf(select.value) < 0) { fits = false; }
        });
        bounds.forEach(function (bound) {
          if (bound.value && Number(row.getAttribute("data-" + bound.getAttribute("data-most"))) > Number(bound.value)) { fits = false; }
        });
        row.hidden = !fits;
        shown += fits ? 1 : 0;
      });
      if (bounds.length) { markStrongest(); }
      if (count) { count.textContent = (shown === rows.length ? "" : shown + " of ") + rows.length + (rows.length === 1 ? " row" : " rows"); }
    }
    /* the attack with the highest success on each board, of those that are shown */
    function markStrongest() {
      var best = {};
      rows.forEach(function (row) {
        var of = row.getAttribute("data-board"), success = Number(row.getAttribute("data-success"));
        if (!row.hidden && !(best[of] >= success)) { best[of] = success; }
      });
      rows.forEach(function (row) {
        row.querySelector("[data-best]").hidden = Number(row.getAttribute("data-success")) !== best[row.getAttribute("data-board")];
      });
    }
    /* what the same examples say about two rows; the tests were made when the page was built */
    function paired(pair) {
      if (!panel.hasAttribute("data-wins")) { return ""; }
      var wins = JSON.parse(panel.getAttribute("data-wins")), p = JSON.parse(panel.getAttribute("data-p"));
      var a = rows.indexOf(pair[0]), b = rows.indexOf(pair[1]);
      if (Math.max(a, b) >= wins.length) { return "Only ranked systems were subjected to the same attacks and are tested against each other."; }
      return "On the same examples, " + name(pair[0]) + " is robust on " + wins[a][b] + " examples on which " + name(pair[1]) + " is not, and not robust on " +
        wins[b][a] + " on which " + name(pair[1]) + " is. Exact McNemar test, corrected for all pairs of this board: p " +
        (p[a][b] < 0.001 ? "< 0.001" : "= " + p[a][b]) + (p[a][b] < 0.05 ? "." : ", so the two are tied.");
    }
    function applyCompare() {
      if (!panel) { return; }
      rows.forEach(function (row) {
        var box = row.querySelector("input.pick");
        if (box) { box.checked = picked.indexOf(row.id) >= 0; box.disabled = picked.length === 2 && !box.checked; }
      });
      panel.textContent = "";
      panel.hidden = picked.length !== 2;
      if (panel.hidden) { return; }
      var pair = picked.map(function (id) { return document.getElementById(id); });
      var shown = make("table");
      var top = make("tr");
      top.appendChild(make("td"));
      pair.forEach(function (row) { top.appendChild(make("th", { scope: "col", "class": "num" }, name(row))); });
      top.appendChild(make("th", { scope: "col", "class": "num" }, "difference"));
      var head = make("thead");
      head.appendChild(top);
      shown.appendChild(head);
      var lines = make("tbody");
      heads.forEach(function (th) {
        if (th.getAttribute("data-kind") !== "number") { return; }
        var line = make("tr");
        line.appendChild(make("th", { scope: "row" }, th.getAttribute("data-label")));
        pair.forEach(function (row) { line.appendChild(make("td", { "class": "num" }, cell(row, th).textContent.replace(/\s+/g, " ").trim())); });
        var gap = th.getAttribute("data-col") === "rank" ? NaN : value(pair[0], th) - value(pair[1], th); /* ranks are intervals */
        var points = th.getAttribute("data-unit") === "share";
        var text = isNaN(gap) ? "" : points ? (100 * gap).toFixed(1) + " points" : String(gap);
        line.appendChild(make("td", { "class": "num" }, (gap > 0 ? "+" : "") + text.replace("-", "\u2212")));
        lines.appendChild(line);
      });
      shown.appendChild(lines);
      panel.appendChild(make("h2", {}, "Two systems side by side"));
      var said = paired(pair);
      if (said) { panel.appendChild(make("p", {}, said)); }
      panel.appendChild(shown);
      if (panel.hasAttribute("data-page")) {
        var more = make("p");
        more.appendChild(make("a", { href: panel.getAttribute("data-page") + "#cmp=" + picked.join(",") }, "Comparison by example"));
        panel.appendChild(more);
      }
      var close = make("button", { type: "button", "class": "tool" }, "Clear the comparison");
      close.addEventListener("click", function () { picked = []; applyCompare(); save(); });
      panel.appendChild(close);
    }
    function applyColumns() {
      heads.forEach(function (th) {
        var gone = dropped.indexOf(th.getAttribute("data-col")) >= 0;
        th.hidden = gone;
        rows.forEach(function (row) { cell(row, th).hidden = gone; });
      });
      boxes.forEach(function (box) { box.checked = dropped.indexOf(box.value) < 0; });
    }
    function columnChooser() {
      var chooser = make("details", { "class": "columns" });
      chooser.appendChild(make("summary", {}, "Columns"));
      var list = make("div");
      heads.forEach(function (th) {
        if (th.classList.contains("pin")) { return; }
        var label = make("label", {}, " " + th.getAttribute("data-label"));
        var box = make("input", { type: "checkbox", value: th.getAttribute("data-col") });
        box.addEventListener("change", function () {
          dropped = boxes.filter(function (one) { return !one.checked; }).map(function (one) { return one.value; });
          applyColumns();
          save();
        });
        boxes.push(box);
        label.insertBefore(box, label.firstChild);
        list.appendChild(label);
      });
      chooser.appendChild(list);
      controls.appendChild(chooser);
    }
    function save() {
      var state = readState();
      state[prefix + "hide"] = dropped.join(",");
      state[prefix + "sort"] = sort.col ? sort.col + "," + sort.dir : "";
      if (search) { state[prefix + "q"] = search.value.trim(); }
      selects.forEach(function (select) { state[prefix + select.getAttribute("data-facet")] = select.value; });
      bounds.forEach(function (bound) { state[prefix + bound.getAttribute("data-most")] = bound.value; });
      if (panel) { state[prefix + "cmp"] = picked.join(","); }
      writeState(state);
    }
    function restore() {
      var state = readState();
      var parts = (state[prefix + "sort"] || "").split(",");
      sort = { col: parts[0] || "", dir: parts[1] === "asc" ? "asc" : "desc" };
      if (search) { search.value = state[prefix + "q"] || ""; }
      selects.forEach(function (select) {
        select.value = state[prefix + select.getAttribute("data-facet")] || "";
        if (select.selectedIndex < 0) { select.value = ""; }
      });
      bounds.forEach(function (bound) { bound.value = state[prefix + bound.getAttribute("data-most")] || ""; });
      picked = (state[prefix + "cmp"] || "").split(",").filter(function (id) {
        return rows.some(function (row) { return row.id === id && id; });
      }).slice(0, 2);
      dropped = (state[prefix + "hide"] || "").split(",").filter(function (col) {
        return boxes.some(function (box) { return box.value === col; });
      });
      applyColumns();
      applySort();
      applyFilter();
      applyCompare();
    }

    heads.forEach(function (th) {
      var button = make("button", { type: "button" });
      while (th.firstChild) { button.appendChild(th.firstChild); }
      th.appendChild(button);
      button.addEventListener("click", function () {
        var col = th.getAttribute("data-col");
        var first = th.getAttribute("data-first") || "desc";
        var second = first === "desc" ? "asc" : "desc";
        if (sort.col !== col) { sort = { col: col, dir: first }; }
        else if (sort.dir === first) { sort = { col: col, dir: second }; }
        else { sort = { col: "", dir: "" }; } /* a third time: back to the order of the page */
        applySort();
        save();
      });
    });
    if (panel) {
      rows.filter(function (row) { return row.className !== "reported"; }).forEach(function (row) {
        var box = make("input", { type: "checkbox", "class": "pick", "aria-label": "compare " + name(row) });
        box.addEventListener("change", function () {
          picked = box.checked ? picked.concat(row.id) : picked.filter(function (id) { return id !== row.id; });
          applyCompare();
          save();
        });
        var head = row.querySelector("th");
        head.insertBefore(box, head.firstChild);
      });
    }
    if (controls && heads.length > 3) { columnChooser(); }
    if (controls) { controls.hidden = false; }
    if (search) { search.addEventListener("input", function () { applyFilter(); save(); }); }
    selects.forEach(function (select) { select.addEventListener("change", function () { applyFilter(); save(); }); });
    bounds.forEach(function (bound) { bound.addEventListener("input", function () { applyFilter(); save(); }); });
    addEventListener("hashchange", restore);
    restore();
  }

  /* two systems of a board on the same examples, from the bits that the page carries */
  function duel(box) {
    var known = JSON.parse(box.getAttribute("data-duel"));
    if (known.rows.length < 2) { return; }
    var selects = all("select[data-side]", box), place = box.querySelector("[data-duel-place]");
    var prefix = box.id === "duel" ? "" : box.id + ".";

    function shares(row) { /* of each example: in how many runs it was held */
      var runs = row.held.map(function (text) { return atob(text); });
      var counts = [];
      for (var at = 0; at < known.total; at++) {
        var held = 0;
        runs.forEach(function (bits) { held += bits.charCodeAt(at >> 3) >> (7 - at % 8) & 1; });
        counts.push(held / runs.length);
      }
      return counts;
    }
    function line(cells) {
      var tr = make("tr");
      cells.forEach(function (cell, at) {
        var number = typeof cell === "number";
        tr.appendChild(make(number || cell === "" ? "td" : "th", number ? { "class": "num" } : cell === "" ? {} : { scope: at ? "col" : "row" }, String(cell).replace(/_/g, "_\u200b")));
      });
      return tr;
    }
    function examples(name, list) {
      var part = make("div");
      part.appendChild(make("h3", {}, "Robust for " + name + " only"));
      part.appendChild(make("p", { "class": "places note" }, list.length
        ? "Positions in the example list, from 0: " + list.slice(0, 200).join(", ") + (list.length > 200 ? " and " + (list.length - 200) + " more." : ".")
        : "No example."));
      return part;
    }
    function show() {
      var at = selects.map(function (select) { return select.selectedIndex; });
      var pair = at.map(function (index) { return known.rows[index]; });
      var first = shares(pair[0]), second = shares(pair[1]), both = 0, one = 0, other = 0, neither = 0, only = [[], []];
      first.forEach(function (p, index) { /* with several runs, the mean over all pairs of runs */
        var q = second[index];
        both += p * q; one += p * (1 - q); other += q * (1 - p); neither += (1 - p) * (1 - q);
        if (p !== q) { only[p > q ? 0 : 1].push(index); }
      });
      function rounded(value) { return Math.round(10 * value) / 10; }
      var several = pair[0].held.length > 1 || pair[1].held.length > 1;
      var p = known.p[at[0]][at[1]];
      place.textContent = "";
      var left = make("div");
      var table = make("table");
      table.appendChild(make("caption", {}, "Examples, under all attacks" + (several ? "; means over all pairs of runs" : "")));
      var head = make("thead");
      head.appendChild(line(["", pair[1].name + " robust", pair[1].name + " broken"]));
      var body = make("tbody");
      body.appendChild(line([pair[0].name + " robust", rounded(both), rounded(one)]));
      body.appendChild(line([pair[0].name + " broken", rounded(other), rounded(neither)]));
      table.appendChild(head);
      table.appendChild(body);
      left.appendChild(table);
      left.appendChild(make("p", {}, at[0] === at[1] ? "Choose two different systems." :
        pair[0].name + " does better on " + only[0].length + " examples, " + pair[1].name + " on " + only[1].length +
        ". Exact McNemar test, corrected for all pairs of this board: p\u00a0" + (p < 0.001 ? "<\u00a00.001" : "=\u00a0" + p) + (p < 0.05 ? "." : ", so the two are tied.")));
      place.appendChild(left);
      if (at[0] !== at[1]) {
        var right = make("div");
        right.appendChild(examples(pair[0].name, only[0]));
        right.appendChild(examples(pair[1].name, only[1]));
        place.appendChild(right);
      }
    }
    function restore() {
      var wanted = (readState()[prefix + "cmp"] || "").split(",");
      selects.forEach(function (select, index) {
        select.value = wanted[index] || "";
        if (select.selectedIndex < 0) { select.selectedIndex = index; }
      });
      show();
    }
    selects.forEach(function (select) {
      select.addEventListener("change", function () {
        var state = readState();
        state[prefix + "cmp"] = selects.map(function (one) { return one.value; }).join(",");
        writeState(state);
        show();
      });
    });
    box.hidden = false;
    addEventListener("hashchange", restore);
    restore();
  }

  document.addEventListener("DOMContentLoaded", function () {
    themeButton();
    all("table[data-sortable]").forEach(board);
    all("[data-duel]").forEach(duel);
    all("button[data-copy]").forEach(function (button) {
      button.hidden = false;
      button.addEventListener("click", function () {
        var text = document.getElementById(button.getAttribute("data-copy")).textContent;
        navigator.clipboard.writeText(text).then(function () { button.textContent = "Copied"; }, function () { button.textContent = "Select it and copy"; });
      });
    });
  });
}());
