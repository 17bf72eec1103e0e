// By itself the generator makes `any` of a schema with `not`.
module.exports = {
  schemaParsers: {
    complexNot: class {
      constructor(_, schema) { this.type = schema.type; }
      parse() { return this.type; }
    },
  },
};
