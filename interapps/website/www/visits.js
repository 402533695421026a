fetch("/cgi-bin/visits")
  .then((answer) => answer.text())
  .then((number) => { document.getElementById("visits").textContent = number.trim(); })
  .catch(() => { document.querySelector(".visits").hidden = true; });
