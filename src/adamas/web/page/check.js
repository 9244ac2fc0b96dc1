// Says in a sentence what keeps this browser from dreaming. A plain script of old syntax: it must run where the rest cannot.

(function () {
  // (v128.const 0, i8x16.popcnt): what SIMD looks like
  var simd = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
  var missing = "";
  if (location.protocol === "file:")
    missing = "Browsers do not let a page read its models from a disk. Run \"python -m http.server\" in this folder and open http://localhost:8000.";
  else if (typeof WebAssembly !== "object")
    missing = "This browser has no WebAssembly, which the dream runs in, or has it switched off. A newer browser has it.";
  else if (!WebAssembly.validate(new Uint8Array(simd)))
    missing = "This browser's WebAssembly has no SIMD instructions, which the dream needs. Chrome 91, Firefox 89 and Safari 16.4 have them.";
  else if (typeof DecompressionStream !== "function")
    missing = "This browser has no DecompressionStream, with which the page unpacks its files. Chrome 80, Firefox 113 and Safari 16.4 have it.";
  else if (typeof Worker !== "function")
    missing = "This browser has no Workers, which the dream runs in.";
  document.documentElement.setAttribute("data-missing", missing);
  addEventListener("DOMContentLoaded", function () {
    if (!missing) return;
    document.getElementById("missing").textContent = missing;
    document.getElementById("missing").hidden = false;
    document.getElementById("model").textContent = "cannot run here";
  });
})();
