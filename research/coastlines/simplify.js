// Makes streams/live/static/world.json.gz, the coastlines and borders of the live page: TopoJSON without names, of
// Natural Earth 4.1.0 at 1:10 000 000, which is in the public domain, as the package world-atlas 2.0.2 has it.
//
//     cd research/coastlines && npm install --no-package-lock && node simplify.js
import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { quantize } from "topojson-client";
import { filter, filterWeight, presimplify, simplify, sphericalRingArea, sphericalTriangleArea } from "topojson-simplify";

const CORNER = 1.5; // km², of the triangle that a corner makes with its neighbours: those with less are left out
const ISLAND = 1; // km²; smaller ones are left out
const STEPS = 1e5; // from west to east, 400 m each, and from south to north, 190 m each
const EARTH = 6371 ** 2; // km² of a steradian

const world = JSON.parse(readFileSync("node_modules/world-atlas/countries-10m.json", "utf8"));
world.objects = { countries: bare(world.objects.countries) };
const simple = simplify(presimplify(world, sphericalTriangleArea), CORNER / EARTH);
const large = quantize(filter(simple, filterWeight(simple, ISLAND / EARTH, sphericalRingArea)), STEPS);
const packed = gzipSync(JSON.stringify(large), { level: 9 });
writeFileSync("../../streams/live/static/world.json.gz", packed);
console.log(`${large.arcs.length} lines, ${large.arcs.flat().length} corners, ${packed.length} bytes`);

/** A geometry without what it is called. */
function bare({ type, arcs, geometries }) {
  return geometries ? { type, geometries: geometries.map(bare) } : { type, arcs };
}
