"""The audit lake: journals into Iceberg tables, and the tables read again."""
