/* What the browser does by itself: the address that follows the controls, the way back, and text at a simulated pace. */
window.dash_clientside = window.dash_clientside || {};
(function () {
  "use strict";
  var last = 0;

  window.addEventListener("popstate", function () {
    // Dash's own location believes that it still is where it was; told again, it draws the page of this address.
    if (window.dash_clientside.set_props) {
      window.dash_clientside.set_props("_pages_location", {
        href: location.href, pathname: location.pathname, search: location.search, hash: location.hash
      });
    }
  });

  function remember() {
    var args = Array.prototype.slice.call(arguments);
    var defaults = args.pop(), names = Object.keys(defaults), query = new URLSearchParams();
    names.forEach(function (name, i) {
      var value = args[i];
      if (value === undefined || value === null) { return; }
      var text = Array.isArray(value) ? value.join(",") : String(value);
      if (text !== defaults[name]) { query.set(name, text); }
    });
    var search = query.toString().replace(/%2C/g, ",");
    search = search ? "?" + search : "";
    if (search !== location.search) {
      // Steps of one movement are one entry of the way back.
      var now = Date.now(), step = now - last > 700 ? "pushState" : "replaceState";
      last = now;
      history[step](null, "", location.pathname + search);
    }
    return window.dash_clientside.no_update;
  }

  var WORDS = ("every token takes its way through all stages of the machine and back before the next one can begin so what a " +
    "reader feels is the sum of many small steps on chips cables and switches and nothing that is added to one of them is " +
    "ever hidden behind another because there is only this one sequence and it waits for each").split(" ");
  var playing = 0;

  function drawn(quantiles, random) { return quantiles[Math.floor(random() * quantiles.length)]; }

  /* Small and seeded: the same link plays the same. */
  function generator(seed) {
    return function () { seed = (seed * 1664525 + 1013904223) % 4294967296; return seed / 4294967296; };
  }

  function play(clicks, lanes) {
    var run = ++playing;
    if (!clicks || !lanes) { return window.dash_clientside.no_update; }
    var began = performance.now();
    lanes.forEach(function (lane, i) {
      var text = document.getElementById("feel-text-" + i), count = document.getElementById("feel-count-" + i);
      if (!text || !lane.gaps.length) { return; }
      var random = generator(7 + i), next = drawn(lane.ttft, random), tokens = 0, words = [];
      text.textContent = "";
      function frame() {
        if (run !== playing || !text.isConnected) { return; }
        var now = (performance.now() - began) / 1000;
        while (next <= now && tokens < lane.tokens) {
          words.push(WORDS[tokens % WORDS.length]); tokens += 1; next += drawn(lane.gaps, random);
        }
        text.textContent = words.slice(-90).join(" ");
        count.textContent = tokens + " tokens in " + Math.min(now, 60).toFixed(1) + " s";
        if (tokens < lane.tokens && now < 60) { requestAnimationFrame(frame); }
      }
      requestAnimationFrame(frame);
    });
    return window.dash_clientside.no_update;
  }

  function copy_link(clicks) {
    if (clicks && navigator.clipboard) { navigator.clipboard.writeText(location.href).catch(function () {}); }
    return clicks ? "Copied" : window.dash_clientside.no_update;
  }

  window.dash_clientside.dcsim = { remember: remember, play: play, copy_link: copy_link };
})();

/* Buttons that save a figure or copy a command; they come and go with pages, so the document listens for all of them. */
document.addEventListener("click", function (event) {
  "use strict";
  var button = event.target.closest ? event.target.closest("[data-save], [data-copy], [data-grid]") : null;
  if (!button) { return; }
  if (button.dataset.copy) {
    if (navigator.clipboard) { navigator.clipboard.writeText(button.dataset.copy).catch(function () {}); }
    return;
  }
  if (button.dataset.grid) {
    window.dash_ag_grid.getApi(button.dataset.grid).exportDataAsCsv({ fileName: button.dataset.grid + ".csv" });
    return;
  }
  var holder = document.getElementById(button.dataset.figure), plot = holder && holder.querySelector(".js-plotly-plot");
  if (!plot || !window.Plotly) { return; }
  var name = button.dataset.figure, kind = button.dataset.save;
  if (kind !== "csv") {
    window.Plotly.downloadImage(plot, { format: kind, filename: name, scale: 2 });
    return;
  }
  function cell(value) {
    var text = value === undefined || value === null ? "" : String(value);
    return /[",\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
  }
  var lines = ["series,x,y"];
  (plot.calcdata || []).forEach(function (points, i) {
    var trace = plot._fullData[points[0] && points[0].trace ? points[0].trace.index : i] || {};
    var x = trace.x || [], y = trace.y || [];
    for (var k = 0; k < Math.max(x.length, y.length); k += 1) { lines.push([trace.name, x[k], y[k]].map(cell).join(",")); }
  });
  var link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = name + ".csv";
  link.click();
  setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
});
