(function () {
  "use strict";
  var SHOWN = 100;
  var data = JSON.parse(document.getElementById("rows").textContent);
  var search = document.getElementById("search"), body = document.querySelector("#lineage tbody");
  var heads = document.querySelectorAll("#lineage th"), said = document.getElementById("found");
  var texts = data.rows.map(function (row) { return row.join("\n").toLowerCase(); });
  var order = data.rows.map(function (_, place) { return place; });
  var sorted = -1, falling = false;

  function compare(a, b) {
    var x = data.rows[a][sorted], y = data.rows[b][sorted];
    if (x === y) return a - b;
    if (x === null) return 1;
    if (y === null) return -1;
    return (x < y ? -1 : 1) * (falling ? -1 : 1);
  }

  function show() {
    var words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    var found = order.filter(function (place) {
      return words.every(function (word) { return texts[place].indexOf(word) >= 0; });
    });
    body.textContent = "";
    found.slice(0, SHOWN).forEach(function (place) {
      var line = body.insertRow();
      data.rows[place].forEach(function (value) { line.insertCell().textContent = value === null ? "" : value; });
    });
    said.textContent = found.length + " of " + data.rows.length + " rows match" +
      (found.length > SHOWN ? "; the first " + SHOWN + " are shown" : "");
  }

  heads.forEach(function (head, column) {
    head.addEventListener("click", function () {
      falling = sorted === column && !falling;
      sorted = column;
      order.sort(compare);
      heads.forEach(function (other, place) {
        other.textContent = data.columns[place] + (place === column ? (falling ? " ▼" : " ▲") : "");
      });
      show();
    });
  });
  search.addEventListener("input", show);
  show();
})();
