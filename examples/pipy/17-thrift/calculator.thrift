exception Refused {
  1: string reason
}

service Calculator {
  i64 add(1: i64 a, 2: i64 b),
  double divide(1: double a, 2: double b) throws (1: Refused refused),
  string echo(1: string text),
  list<i32> range(1: i32 count),
  void erase(),
  oneway void note(1: string text),
}
