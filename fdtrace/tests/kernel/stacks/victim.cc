// As victim.c in C++: opens a file through its library, and ends with standard input.
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace app {

class Store {
public:
	template <typename Name> __attribute__((noinline)) void keep(const Name &name)
	{
		held.emplace_back(name); // [leaks]
		// What is done last is jumped to, and leaves nobody behind who could be seen.
		kept++;
	}

	std::vector<std::ifstream> held;
	volatile int kept = 0;
};

__attribute__((noinline)) bool handle(Store &store, const std::string &name)
{
	store.keep(name); // [handles]
	return store.held.back().is_open();
}

} // namespace app

int main()
{
	app::Store store;
	if (!app::handle(store, "/dev/null"))
		return 1;
	std::cin.get();
	return 0;
}
